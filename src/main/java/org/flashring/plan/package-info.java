/** What will run, move and be held, before anything runs: {@link org.flashring.plan.Plan}. */
package org.flashring.plan;
