/**
 * The borders to native code: declarations, loading, checks of arguments. Uses no other package of the library; not for
 * users.
 */
package org.flashring.internal;
