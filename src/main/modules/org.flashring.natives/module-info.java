/** FlashRing's native libraries for linux-x86_64: resources that JavaCPP unpacks. */
open module org.flashring.natives {
}
