package org.flashring.cli.generate;

import java.util.SplittableRandom;

/** Which token comes next, given the logits of all: the likeliest, or one that is drawn. */
final class Sampler {
    private final double temperature;
    private final SplittableRandom random;

    /** Draws by {@code seed}, from logits divided by {@code temperature}; 0 takes the likeliest. */
    Sampler(double temperature, long seed) {
        this.temperature = temperature;
        this.random = new SplittableRandom(seed);
    }

    /**
     * Returns the number of a token; of equal ones the first.
     *
     * @throws ArithmeticException if a logit is not finite
     */
    int choose(double[] logits) {
        int best = 0;
        for (int token = 0; token < logits.length; token++) {
            if (!Double.isFinite(logits[token])) {
                throw new ArithmeticException("the model's logit of token " + token + " is " + logits[token]);
            }
            best = logits[token] > logits[best] ? token : best;
        }
        return temperature == 0 ? best : drawn(logits, logits[best]);
    }

    private int drawn(double[] logits, double most) {
        double total = 0;
        for (double logit : logits) {
            total += Math.exp((logit - most) / temperature);
        }
        double left = random.nextDouble() * total;
        int last = 0;
        for (int token = 0; token < logits.length; token++) {
            double weight = Math.exp((logits[token] - most) / temperature);
            left -= weight;
            if (left < 0) {
                return token;
            }
            last = weight > 0 ? token : last;
        }
        return last; // rounding has left a little
    }
}
