package org.flashring.launch;

import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.flashring.internal.Checks;

/** SLURM's way to write many hosts: {@code gpu[003-006,009],login1}, with any number of brackets in a name. */
final class HostList {
    private static final String RANGE = "(\\d+)(?:-\\d+)?";
    private static final Pattern BRACKET = Pattern.compile("\\[" + RANGE + "(?:," + RANGE + ")*]");
    private static final Pattern NAME = Pattern.compile("(?:[^\\[\\],\\s]|" + BRACKET + ")+");

    private HostList() {}

    /**
     * Returns the first host of a list, every bracket standing for its first number as it is written, leading zeros
     * included: {@code n1g08} of {@code n[1-2]g[08-11]}.
     *
     * @param variable where the list comes from, for the message
     * @throws IllegalArgumentException if the list does not begin with a host
     */
    static String first(String variable, String list) {
        Matcher name = NAME.matcher(list);
        if (!name.lookingAt() || name.end() < list.length() && list.charAt(name.end()) != ',') {
            throw Checks.broken(
                    variable, "'" + list + "'", "begin with a host such as gpu7 or rack[1-2]-gpu[03-08,11]");
        }
        return BRACKET.matcher(name.group()).replaceAll("$1");
    }
}
