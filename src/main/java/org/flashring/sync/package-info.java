/** What training needs around attention: batches cut over ranks, losses weighted by tokens, sums of gradients. */
package org.flashring.sync;
