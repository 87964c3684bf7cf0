/** A program that names the library and nothing else. */
module com.example.modular {
    requires org.flashring;
}
