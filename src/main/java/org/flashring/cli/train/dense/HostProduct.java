package org.flashring.cli.train.dense;

import java.util.Arrays;
import org.flashring.DType;
import org.flashring.cli.train.dense.Ops.Form;

/**
 * One product of matrices on the host, a block of the result at a time. Each element sums its terms in one order,
 * wherever it lies: rows have the same bits at any place, whoever computes which block.
 */
record HostProduct(Form form, long m, long n, long k, long a, long b, long plus, long d, DType type, DType resultType) {
    // A block of b, 64 KiB, stays in a core's second cache while the rows of a meet it.
    private static final int ROWS = 128;
    private static final int COLUMNS = 128;
    private static final int DEPTH = 64;

    /** Returns the number of blocks. */
    long blocks() {
        return rowBlocks() * ((n + COLUMNS - 1) / COLUMNS);
    }

    private long rowBlocks() {
        return (m + ROWS - 1) / ROWS;
    }

    /** Computes one block. */
    void compute(HostView view, long block) {
        long row = block % rowBlocks() * ROWS;
        long column = block / rowBlocks() * COLUMNS;
        int rows = (int) Math.min(ROWS, m - row);
        int columns = (int) Math.min(COLUMNS, n - column);
        double[] left = view.array(0, ROWS * DEPTH);
        double[] right = view.array(1, DEPTH * COLUMNS);
        double[] sums = view.array(2, ROWS * COLUMNS);
        double[] turned = view.array(3, DEPTH * Math.max(ROWS, COLUMNS));
        for (int i = 0; i < rows; i++) {
            if (plus == 0) {
                Arrays.fill(sums, i * COLUMNS, i * COLUMNS + columns, 0);
            } else {
                view.load(resultType, plus + ((row + i) * n + column) * resultType.bytes(), sums, i * COLUMNS, columns);
            }
        }
        for (long first = 0; first < k; first += DEPTH) {
            int depth = (int) Math.min(DEPTH, k - first);
            if (form == Form.TN) {
                transposed(view, a, m, first, row, depth, rows, turned, left, DEPTH);
            } else {
                straight(view, a, k, row, first, rows, depth, left, DEPTH);
            }
            if (form == Form.NT) {
                transposed(view, b, k, column, first, columns, depth, turned, right, COLUMNS);
            } else {
                straight(view, b, n, first, column, depth, columns, right, COLUMNS);
            }
            multiply(left, right, sums, rows, columns, depth);
        }
        for (int i = 0; i < rows; i++) {
            view.store(resultType, d + ((row + i) * n + column) * resultType.bytes(), sums, i * COLUMNS, columns);
        }
    }

    /** Sets to [rows][columns] to a part of a matrix of {@code width} columns. */
    private void straight(
            HostView view, long from, long width, long row, long column, int rows, int columns, double[] to, int step) {
        for (int i = 0; i < rows; i++) {
            view.load(type, from + ((row + i) * width + column) * type.bytes(), to, i * step, columns);
        }
    }

    /** Sets to [columns][rows] to a part of a matrix of {@code width} columns. */
    private void transposed(
            HostView view,
            long from,
            long width,
            long row,
            long column,
            int rows,
            int columns,
            double[] between,
            double[] to,
            int step) {
        straight(view, from, width, row, column, rows, columns, between, columns);
        for (int j = 0; j < columns; j++) {
            for (int i = 0; i < rows; i++) {
                to[j * step + i] = between[i * columns + j];
            }
        }
    }

    private static void multiply(double[] left, double[] right, double[] sums, int rows, int columns, int depth) {
        for (int i = 0; i < rows; i++) {
            int c = i * COLUMNS;
            int a = i * DEPTH;
            int p = 0;
            for (; p + 4 <= depth; p += 4) {
                four(
                        left[a + p],
                        left[a + p + 1],
                        left[a + p + 2],
                        left[a + p + 3],
                        right,
                        p * COLUMNS,
                        sums,
                        c,
                        columns);
            }
            for (; p < depth; p++) {
                one(left[a + p], right, p * COLUMNS, sums, c, columns);
            }
        }
    }

    /** Adds four rows of right, each times its factor, to a row of sums: a loop that compilers turn into vectors. */
    private static void four(
            double a0, double a1, double a2, double a3, double[] right, int at, double[] sums, int to, int columns) {
        for (int j = 0; j < columns; j++) {
            sums[to + j] += a0 * right[at + j]
                    + a1 * right[at + COLUMNS + j]
                    + a2 * right[at + 2 * COLUMNS + j]
                    + a3 * right[at + 3 * COLUMNS + j];
        }
    }

    private static void one(double factor, double[] right, int at, double[] sums, int to, int columns) {
        for (int j = 0; j < columns; j++) {
            sums[to + j] += factor * right[at + j];
        }
    }
}
