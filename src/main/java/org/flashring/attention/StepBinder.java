package org.flashring.attention;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.BiConsumer;
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
    private Piece atHome; // own keys whose gradients are being added up
    private final Set<Held> arrived = new HashSet<>(); // gradients of other ranks' keys that this rank adds to
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
                : bind(block, Schedule.resumes(steps, number), Schedule.finishes(steps, number), ready);
        return new BoundStep(
                number,
                Plan.sourceOf(schedule, block),
                array(ready),
                transfers(step.before()),
                transfers(step.ahead()),
                step.computes() ? bound : null,
                transfers(step.after()),
                deliver(
                        step.after(),
                        number + 1 == steps.size()
                                || hasOwn(steps.get(number + 1).block())),
                plan.bytesSent(step));
    }

    private BoundBlock bind(Block block, boolean resume, boolean finish, List<Move> ready) {
        Held first = block.keys().get(0);
        KeyTensors keys = first.slot() == Schedule.OWN ? null : slot(first);
        if (gathers(block)) {
            keys = of(block, footprint.ordered(), shape.dtype());
            order(block, keys, ready);
        }
        long rows = schedule.sources().get(block.source()).length();
        return new BoundBlock(block.source(), rows, block.heads(), keys, resume, finish, grads(block));
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

    private BlockGrads grads(Block block) {
        if (block.results().isEmpty()) {
            return null;
        }
        if (hasOwn(block)) {
            atHome = ownOf(block);
        }
        if (!gathers(block) && hasOwn(block)) {
            boolean direct = !addsAtHome();
            return new BlockGrads(direct ? ofBlock(block) : home(), direct, NONE);
        }
        KeyTensors grads = ofBlock(block);
        List<Move> moves = new ArrayList<>();
        for (Held held : block.results()) {
            if (gathers(block)) {
                KeyTensors to = held.slot() == Schedule.OWN ? home() : slot(held);
                for (KeyTensors.Range range : ranges(held, block)) {
                    moves.add(new Move.Copy(
                            to.rows(range.ownRow(), range.count(), 1),
                            grads.rows(range.row(), range.count(), range.stride())));
                }
            } else {
                moves.add(arrived.contains(held) ? new Move.Add(slot(held), grads) : new Move.Copy(slot(held), grads));
            }
        }
        return new BlockGrads(grads, false, array(moves));
    }

    /**
     * Gradients that come for own keys go home: straight, or added to what this rank has computed of them, which is
     * done after the {@code last} of them.
     */
    private Move[] deliver(Exchange exchange, boolean last) {
        List<Move> moves = new ArrayList<>();
        for (int i = 0; exchange != null && i < exchange.receives().size(); i++) {
            Held held = exchange.receives().get(i).held();
            if (held.piece().rows().owner() != rank) {
                arrived.add(held);
            } else if (addsAtHome()) {
                forEachRun(held, (run, rows) -> moves.add(new Move.Add(home().rows(run.from(), run.count(), 1), rows)));
            } else {
                moves.add(new Move.Store(slot(held), held.piece().heads().from()));
            }
        }
        if (exchange != null && addsAtHome() && last) {
            moves.add(new Move.Store(home(), atHome.heads().from()));
        }
        return array(moves);
    }

    /** Returns whether gradients of own keys come from several ranks. */
    private boolean addsAtHome() {
        return schedule.room().home() > 0;
    }

    /** Returns whether gradients of own keys come from {@code block}, which may be null. */
    private static boolean hasOwn(Block block) {
        return ownOf(block) != null;
    }

    private static Piece ownOf(Block block) {
        return block == null
                ? null
                : block.results().stream()
                        .filter(held -> held.slot() == Schedule.OWN)
                        .map(Held::piece)
                        .findFirst()
                        .orElse(null);
    }

    private KeyTensors home() {
        DType wide = shape.dtype().accumulator();
        return KeyTensors.at(
                base + footprint.home(),
                shape,
                wide,
                atHome.rows().count(),
                atHome.heads().count());
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
