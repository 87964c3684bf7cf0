package org.flashring.internal;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.function.Consumer;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/**
 * Where ranks bring their terms. Once all of a group have come for its n-th plan, each is told how they differ, or that
 * they do not. For any thread; answers are given outside the monitor.
 */
public final class Assembly {
    /**
     * What a rank brings: {@code rank} of {@code size} in a group, whose name is the same on all its ranks, and the
     * terms of its n-th plan.
     */
    public record Guest(String group, long plan, int rank, int size, Map<String, String> terms) {
        /** Returns what the ranks do here, as failures name it. */
        public String operation() {
            return "agree on plan " + plan;
        }

        private Key key() {
            return new Key(group, plan);
        }
    }

    private record Key(String group, long plan) {}

    /** Those who have come, by rank, and how they are answered. */
    private static final class Meeting {
        private final Guest[] guests;
        private final List<Consumer<String>> answers = new ArrayList<>();
        private final Guest first;
        private final long since = System.nanoTime();

        Meeting(Guest first) {
            this.first = first;
            guests = new Guest[first.size()];
        }

        private String absent() {
            return IntStream.range(0, guests.length)
                    .filter(rank -> guests[rank] == null)
                    .mapToObj(String::valueOf)
                    .collect(Collectors.joining(", ", "rank ", ""));
        }
    }

    private final Map<Key, Meeting> meetings = new HashMap<>();
    private final Map<String, boolean[]> gone = new HashMap<>(); // by group and rank

    /**
     * Takes a rank in. {@code answer} gets the empty string if all agree, else what is wrong, when all have come or one
     * cannot come.
     */
    public void bring(Guest guest, Consumer<String> answer) {
        String problem;
        List<Consumer<String>> answers;
        synchronized (this) {
            Meeting meeting = meetings.computeIfAbsent(guest.key(), key -> new Meeting(guest));
            meeting.answers.add(answer);
            problem = seat(meeting, guest);
            if (problem == null) {
                problem = lacking(meeting);
            }
            if (problem == null && Arrays.stream(meeting.guests).allMatch(Objects::nonNull)) {
                problem = disagreement(meeting);
            }
            if (problem == null) {
                return;
            }
            meetings.remove(guest.key());
            answers = meeting.answers;
        }
        String verdict = problem;
        answers.forEach(each -> each.accept(verdict));
    }

    /** Returns what is wrong with a newcomer, or null. */
    private static String seat(Meeting meeting, Guest guest) {
        if (guest.size() != meeting.first.size()
                || guest.rank() < 0
                || guest.rank() >= guest.size()
                || meeting.guests[guest.rank()] != null) {
            return "rank " + guest.rank() + " of " + guest.size() + " cannot " + guest.operation() + " with rank "
                    + meeting.first.rank()
                    + " of " + meeting.first.size();
        }
        meeting.guests[guest.rank()] = guest;
        return null;
    }

    /** Returns who is waited for in vain, in words, or null. */
    private String lacking(Meeting meeting) {
        boolean[] left = gone.get(meeting.first.group());
        for (int rank = 0; left != null && rank < Math.min(left.length, meeting.guests.length); rank++) {
            if (left[rank] && meeting.guests[rank] == null) {
                return "rank " + meeting.first.rank() + " waits in " + meeting.first.operation() + ", but rank " + rank
                        + " has left the group";
            }
        }
        return null;
    }

    /** Returns how all who have come differ, or the empty string. */
    private static String disagreement(Meeting meeting) {
        for (Guest guest : meeting.guests) {
            String difference = Terms.difference(meeting.guests[0].terms(), guest.rank(), guest.terms());
            if (difference != null) {
                return "rank " + guest.rank() + " and rank 0 cannot " + guest.operation() + ": " + difference;
            }
        }
        return "";
    }

    /**
     * Notes that rank {@code rank} of {@code size} has left a group: who waits for it is answered at once, now and
     * later.
     */
    public void leave(String group, int rank, int size) {
        List<Runnable> answers = new ArrayList<>();
        synchronized (this) {
            boolean[] left = gone.computeIfAbsent(group, name -> new boolean[size]);
            left[rank] = true;
            meetings.values().removeIf(meeting -> {
                String problem = meeting.first.group().equals(group) ? lacking(meeting) : null;
                if (problem != null) {
                    meeting.answers.forEach(answer -> answers.add(() -> answer.accept(problem)));
                }
                return problem != null;
            });
            if (IntStream.range(0, size).allMatch(each -> left[each])) {
                gone.remove(group); // nobody is left to ask
            }
        }
        answers.forEach(Runnable::run);
    }

    /** Returns whom the longest wait of more than {@code nanos} is for, in words; null if there is none. */
    public synchronized String overdue(long nanos) {
        long now = System.nanoTime();
        return meetings.values().stream()
                .filter(meeting -> now - meeting.since > nanos)
                .max(Comparator.comparingLong(meeting -> now - meeting.since))
                .map(meeting -> "rank " + meeting.first.rank() + " waited " + nanos / 1_000_000
                        + " ms, the deadline, in " + meeting.first.operation() + " for " + meeting.absent())
                .orElse(null);
    }
}
