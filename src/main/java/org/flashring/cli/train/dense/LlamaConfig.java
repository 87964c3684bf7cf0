package org.flashring.cli.train.dense;

import com.google.gson.annotations.SerializedName;
import java.util.List;

/** What config.json says of a model, in the words of Hugging Face's Llama. */
record LlamaConfig(
        List<String> architectures,
        @SerializedName("model_type") String modelType,
        @SerializedName("hidden_act") String activation,
        @SerializedName("hidden_size") int dim,
        @SerializedName("intermediate_size") int hidden,
        @SerializedName("num_hidden_layers") int layers,
        @SerializedName("num_attention_heads") int heads,
        @SerializedName("num_key_value_heads") int kvHeads,
        @SerializedName("head_dim") int headDim,
        @SerializedName("vocab_size") int vocabulary,
        @SerializedName("max_position_embeddings") long length,
        @SerializedName("rms_norm_eps") double epsilon,
        @SerializedName("rope_theta") double ropeBase,
        @SerializedName("tie_word_embeddings") boolean tied,
        @SerializedName("torch_dtype") String dtype) {
    static LlamaConfig of(DenseModel model, String dtype, long length) {
        return new LlamaConfig(
                List.of("LlamaForCausalLM"),
                "llama",
                "silu",
                model.dim(),
                model.hidden(),
                model.layers(),
                model.heads(),
                model.kvHeads(),
                model.headDim(),
                model.vocabulary(),
                length,
                model.epsilon(),
                model.ropeBase(),
                false,
                dtype);
    }
}
