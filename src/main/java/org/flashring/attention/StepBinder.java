package org.flashring.attention;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.BiConsumer;
import java.util.stream.Stream;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Positions;
import org.flashring.attention.BoundStep.BlockGrads;
import org.flashring.attention.BoundStep.BoundBlock;
import org.flashring.comm.Transfers;
import org.flashring.plan.Footprint;
import org.flashring.plan.Plan;
import org.flashring.plan.Problem;
import org.flashring.plan.Schedule;
import org.flashring.plan.Schedule.Block;
import org.flashring.plan.Schedule.Exchange;
import org.flashring.plan.Schedule.Heads;
import org.flashring.plan.Schedule.Held;
import org.flashring.plan.Schedule.Message;
import org.flashring.plan.Schedule.Part;
import org.flashring.plan.Schedule.Piece;
import org.flashring.plan.Schedule.Run;
import org.flashring.plan.Schedule.Step;

/** Gives the pieces of a schedule their places in one rank's block of memory, once, so that calls make no objects. */
final class StepBinder {
    private static final Move[] NONE = {};

    private final Plan plan;
    private final Problem problem;
    private final AttentionShape shape;
    private final Schedule schedule;
    private final Footprint footprint;
    private final int rank;
    private final long base;
    private final Set<Heads> atHome = new LinkedHashSet<>(); // heads of own gradients that are being added up
    private final Map<Heads, Integer> lastReceipts = new HashMap<>(); // steps after which the last of those come
    private final Map<Piece, Held> arrived = new HashMap<>(); // gradients of other ranks' keys that this rank adds to
    private final Map<Integer, Piece> packed = new HashMap<>(); // own keys that are in a slot already

    StepBinder(Plan plan, Schedule schedule, Footprint footprint, int rank, long base) {
        this.plan = plan;
        this.problem = schedule.problem(plan.problem());
        this.shape = problem.shape();
        this.schedule = schedule;
        this.footprint = footprint;
        this.rank = schedule.rank(rank);
        this.base = base;
    }

    BoundStep[] forward() {
        return bind(schedule.forward());
    }

    BoundStep[] backward() {
        return bind(schedule.backward());
    }

    private BoundStep[] bind(List<Step> steps) {
        packed.clear();
        if (addsAtHome()) {
            for (int i = 0; i < steps.size(); i++) {
                noteReceipts(steps.get(i).after(), i);
            }
        }
        BoundStep[] bound = new BoundStep[steps.size()];
        for (int i = 0; i < bound.length; i++) {
            bound[i] = bind(steps, i);
        }
        return bound;
    }

    private BoundStep bind(List<Step> steps, int number) {
        Step step = steps.get(number);
        Block block = step.block();
        List<Move> ready = new ArrayList<>();
        pack(step.before(), ready);
        pack(step.ahead(), ready);
        BoundBlock bound = block == null
                ? null
                : bind(
                        block,
                        Schedule.resumes(steps, number),
                        Schedule.finishes(steps, number),
                        ready,
                        beside(steps, number));
        return new BoundStep(
                number,
                Plan.sourceOf(schedule, block),
                array(ready),
                transfers(step.before()),
                transfers(step.ahead()),
                step.computes() ? bound : null,
                transfers(step.after()),
                deliver(steps, number),
                plan.bytesSent(step));
    }

    /** Returns what gradients are exchanged while the block of step {@code number} is computed; null for none. */
    private static Exchange beside(List<Step> steps, int number) {
        return number == 0 ? null : steps.get(number - 1).after();
    }

    private BoundBlock bind(Block block, boolean resume, boolean finish, List<Move> ready, Exchange beside) {
        Held first = block.keys().get(0);
        KeyTensors keys = first.slot() == Schedule.OWN ? null : slot(first);
        if (gathers(block)) {
            keys = of(block, footprint.ordered(), shape.dtype());
            order(block, keys, ready);
        }
        long rows = schedule.sources().get(block.source()).length();
        return new BoundBlock(block.source(), rows, block.heads(), keys, resume, finish, grads(block, beside));
    }

    /** Returns whether a block's keys lie in several places. */
    private static boolean gathers(Block block) {
        return block != null && block.keys().size() > 1;
    }

    /** Own keys that are sent are copied into their slot first, unless they are there. */
    private void pack(Exchange exchange, List<Move> ready) {
        if (exchange != null) {
            exchange.receives().forEach(message -> packed.remove(message.held().slot()));
            exchange.sends().stream()
                    .map(Message::held)
                    .filter(held -> held.piece().rows().owner() == rank)
                    .filter(held -> !held.piece().equals(packed.put(held.slot(), held.piece())))
                    .forEach(held -> forEachRun(
                            held,
                            (run, rows) -> ready.add(new Move.Load(
                                    rows, run.from(), held.piece().heads().from()))));
        }
    }

    /** Calls {@code each} with the runs of rows of a piece in a slot, and where they lie there. */
    private void forEachRun(Held held, BiConsumer<Run, KeyTensors> each) {
        long first = 0;
        for (Run run : held.piece().rows().runs()) {
            each.accept(run, slot(held).rows(first, run.count(), 1));
            first += run.count();
        }
    }

    /** Keys of several ranks are copied together in order of their positions. */
    private void order(Block block, KeyTensors ordered, List<Move> ready) {
        for (Held held : block.keys()) {
            for (KeyTensors.Range range : ranges(held, block)) {
                KeyTensors to = ordered.rows(range.row(), range.count(), range.stride());
                ready.add(
                        held.slot() == Schedule.OWN
                                ? new Move.Load(
                                        to, range.ownRow(), block.heads().from())
                                : new Move.Copy(to, slot(held).rows(range.ownRow(), range.count(), 1)));
            }
        }
    }

    private List<KeyTensors.Range> ranges(Held held, Block block) {
        List<Positions> members =
                block.keys().stream().map(key -> positions(key.piece())).toList();
        return KeyTensors.Range.of(positions(held.piece()), members);
    }

    private Positions positions(Piece piece) {
        return problem.keys().positions(piece.rows().owner());
    }

    private BlockGrads grads(Block block, Exchange beside) {
        if (block.results().isEmpty()) {
            return null;
        }
        if (!gathers(block) && hasOwn(block)) {
            boolean direct = !addsAtHome();
            return new BlockGrads(direct ? ofBlock(block) : home(block.heads()), direct, NONE);
        }
        return gathers(block) ? gatheredGrads(block) : othersGrads(block, beside);
    }

    /** Gradients of keys of several ranks go to the places of each. */
    private BlockGrads gatheredGrads(Block block) {
        KeyTensors grads = ofBlock(block);
        List<Move> moves = new ArrayList<>();
        for (Held held : block.results()) {
            KeyTensors to = held.slot() == Schedule.OWN ? home(block.heads()) : slot(held);
            for (KeyTensors.Range range : ranges(held, block)) {
                moves.add(new Move.Copy(
                        to.rows(range.ownRow(), range.count(), 1),
                        grads.rows(range.row(), range.count(), range.stride())));
            }
        }
        return new BlockGrads(grads, false, array(moves));
    }

    /** Gradients of another rank's keys go to a slot, added to those that have come; straight if it may be written. */
    private BlockGrads othersGrads(Block block, Exchange beside) {
        Held held = block.results().get(0);
        boolean straight = plan.wireDType() == shape.dtype().accumulator() && !touches(beside, held.slot());
        KeyTensors grads = straight ? slot(held) : ofBlock(block);
        Held came = arrived.get(held.piece());
        if (came != null) {
            return new BlockGrads(grads, false, new Move[] {new Move.Sum(slot(held), slot(came), grads)});
        }
        return new BlockGrads(grads, false, straight ? NONE : new Move[] {new Move.Copy(slot(held), grads)});
    }

    private static boolean touches(Exchange exchange, int slot) {
        return exchange != null
                && Stream.concat(exchange.sends().stream(), exchange.receives().stream())
                        .anyMatch(message -> message.held().slot() == slot);
    }

    private void noteReceipts(Exchange exchange, int step) {
        if (exchange != null) {
            exchange.receives().stream()
                    .map(message -> message.held().piece())
                    .filter(piece -> piece.rows().owner() == rank)
                    .forEach(piece -> lastReceipts.put(piece.heads(), step));
        }
    }

    /**
     * Gradients that come for own keys go home: straight, or added to what this rank has computed of them, until the
     * last of them has come. They are taken there after the next block is computed, which may be of those keys.
     */
    private Move[] deliver(List<Step> steps, int number) {
        List<Move> moves = new ArrayList<>();
        Exchange exchange = steps.get(number).after();
        for (int i = 0; exchange != null && i < exchange.receives().size(); i++) {
            Held held = exchange.receives().get(i).held();
            Heads heads = held.piece().heads();
            if (held.piece().rows().owner() != rank) {
                arrived.put(held.piece(), held);
            } else if (addsAtHome()) {
                forEachRun(held, (run, rows) -> {
                    KeyTensors to = home(heads).rows(run.from(), run.count(), 1);
                    moves.add(new Move.Sum(to, to, rows));
                });
            } else {
                moves.add(new Move.Store(slot(held), heads.from()));
            }
        }
        if (addsAtHome()) {
            Block block = steps.get(number).block();
            Block next =
                    number + 1 == steps.size() ? null : steps.get(number + 1).block();
            noteOwn(number == 0 || gathers(block) ? block : null);
            noteOwn(gathers(next) ? null : next); // those are taken home later
            atHome.removeIf(heads -> {
                boolean last = lastReceipts.getOrDefault(heads, -1) <= number;
                return last && moves.add(new Move.Store(home(heads), heads.from()));
            });
        }
        return array(moves);
    }

    private void noteOwn(Block block) {
        if (hasOwn(block)) {
            atHome.add(block.heads());
        }
    }

    /** Returns whether gradients of own keys come from several ranks. */
    private boolean addsAtHome() {
        return schedule.room().home() > 0;
    }

    /** Returns whether gradients of own keys come from {@code block}, which may be null. */
    private static boolean hasOwn(Block block) {
        return block != null && block.results().stream().anyMatch(held -> held.slot() == Schedule.OWN);
    }

    /** Returns where gradients of own keys are added up. */
    private KeyTensors home(Heads heads) {
        DType wide = shape.dtype().accumulator();
        return KeyTensors.at(
                base + footprint.home(), shape, wide, problem.keys().localLength(rank), heads.count());
    }

    private KeyTensors ofBlock(Block block) {
        return of(block, footprint.blockGrads(), shape.dtype().accumulator());
    }

    private KeyTensors of(Block block, long offset, DType dtype) {
        long rows = block.keys().stream()
                .mapToLong(held -> held.piece().rows().count())
                .sum();
        return KeyTensors.at(base + offset, shape, dtype, rows, block.heads().count());
    }

    private KeyTensors slot(Held held) {
        Piece piece = held.piece();
        DType dtype = piece.part() == Part.KEY_GRADS ? plan.wireDType() : shape.dtype();
        return KeyTensors.at(
                address(held), shape, dtype, piece.rows().count(), piece.heads().count());
    }

    private long address(Held held) {
        return base + footprint.slots().get(held.slot());
    }

    private Transfers transfers(Exchange exchange) {
        if (exchange == null) {
            return null;
        }
        Transfers transfers = new Transfers();
        exchange.sends()
                .forEach(message -> transfers.send(
                        address(message.held()), plan.bytes(message.held().piece()), message.peer()));
        exchange.receives()
                .forEach(message -> transfers.receive(
                        address(message.held()), plan.bytes(message.held().piece()), message.peer()));
        return transfers;
    }

    private static Move[] array(List<Move> moves) {
        return moves.toArray(Move[]::new);
    }
}
