/** What commands share: options, output, tables, progress, files of results. */
package org.flashring.cli.support;
