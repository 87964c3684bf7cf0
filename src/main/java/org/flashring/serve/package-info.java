/**
 * Serving: sequences that are decoded token by token against the keys and values of all tokens before, a
 * {@link org.flashring.serve.Cache} of rows in one piece or in pages, after a {@link org.flashring.serve.CachePlan}
 * that says what it will hold and read. Greedy decoding, prompt first, with a model of the caller's:
 *
 * <pre>{@code
 * static int[] decode(Model model, int[] prompt, int count) {
 *     int[] text = new int[count];
 *     CachePlan plan = CachePlan.paged(model.shape(), model.layers(), prompt.length + count, 16)
 *             .withNewTokens(prompt.length);
 *     try (Cache cache = new Cache(plan, Device.HOST)) {
 *         int[] input = prompt;
 *         for (int i = 0; i < count; i++) {
 *             Activations x = model.embed(input);
 *             for (int layer = 0; layer < model.layers(); layer++) {
 *                 model.project(layer, x);
 *                 cache.append(layer, x.k(), x.v());
 *                 cache.forward(layer, x.q(), x.out());
 *                 model.finish(layer, x);
 *             }
 *             cache.advance();
 *             text[i] = model.likeliest(x);
 *             input = new int[] {text[i]};
 *         }
 *     }
 *     return text;
 * }
 * }</pre>
 */
package org.flashring.serve;
