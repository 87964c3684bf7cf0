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
        double[][] left = view.matrix(0, ROWS, DEPTH);
        double[][] right = view.matrix(1, DEPTH, COLUMNS);
        double[][] sums = view.matrix(2, ROWS, COLUMNS);
        double[] between = view.array(0, Math.max(ROWS, COLUMNS));
        for (int i = 0; i < rows; i++) {
            if (plus == 0) {
                Arrays.fill(sums[i], 0, columns, 0);
            } else {
                view.load(resultType, plus + ((row + i) * n + column) * resultType.bytes(), sums[i], 0, columns);
            }
        }
        for (long first = 0; first < k; first += DEPTH) {
            int depth = (int) Math.min(DEPTH, k - first);
            if (form == Form.TN) {
                transposed(view, a, m, first, row, depth, rows, between, left);
            } else {
                straight(view, a, k, row, first, rows, depth, left);
            }
            if (form == Form.NT) {
                transposed(view, b, k, column, first, columns, depth, between, right);
            } else {
                straight(view, b, n, first, column, depth, columns, right);
            }
            for (int i = 0; i < rows; i++) {
                multiply(left[i], right, sums[i], columns, depth);
            }
        }
        for (int i = 0; i < rows; i++) {
            view.store(resultType, d + ((row + i) * n + column) * resultType.bytes(), sums[i], 0, columns);
        }
    }

    /** Sets to [rows][columns] to a part of a matrix of {@code width} columns. */
    private void straight(
            HostView view, long from, long width, long row, long column, int rows, int columns, double[][] to) {
        for (int i = 0; i < rows; i++) {
            view.load(type, from + ((row + i) * width + column) * type.bytes(), to[i], 0, columns);
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
            double[][] to) {
        for (int i = 0; i < rows; i++) {
            view.load(type, from + ((row + i) * width + column) * type.bytes(), between, 0, columns);
            for (int j = 0; j < columns; j++) {
                to[j][i] = between[j];
            }
        }
    }

    private static void multiply(double[] left, double[][] right, double[] sums, int columns, int depth) {
        int p = 0;
        for (; p + 4 <= depth; p += 4) {
            four(left, p, right[p], right[p + 1], right[p + 2], right[p + 3], sums, columns);
        }
        for (; p < depth; p++) {
            one(left[p], right[p], sums, columns);
        }
    }

    /** Adds four rows, each times its factor, to the sums. */
    private static void four(
            double[] factors,
            int at,
            double[] right0,
            double[] right1,
            double[] right2,
            double[] right3,
            double[] sums,
            int columns) {
        double a0 = factors[at];
        double a1 = factors[at + 1];
        double a2 = factors[at + 2];
        double a3 = factors[at + 3];
        for (int j = 0; j < columns; j++) {
            sums[j] += a0 * right0[j] + a1 * right1[j] + a2 * right2[j] + a3 * right3[j];
        }
    }

    private static void one(double factor, double[] right, double[] sums, int columns) {
        for (int j = 0; j < columns; j++) {
            sums[j] += factor * right[j];
        }
    }
}
