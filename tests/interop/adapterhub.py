"""Bottleneck adapters to and from AdapterHub's `adapters`.

    adapterhub.py GRAFT MAKE_ADAPTER [--only REGEX] [--keep DIR]

For each (model, configuration): what AdapterHub saves gives equal logits in `graft forward`; what graft saves opens in AdapterHub with
equal logits, no key missing and none left over.
"""
import logging, os, warnings

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
warnings.simplefilter("ignore")
import adapters
import torch
import transformers
from safetensors.torch import save_file

from harness import TOLERANCE, graft_logits, logits_of, made_by_graft, move, move_trained, run, some_rows

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
logging.disable(logging.WARNING)
SMALL = dict(vocab_size=101, hidden_size=32, num_attention_heads=4, num_hidden_layers=2, intermediate_size=48)
CLASSES = dict(num_labels=3, hidden_dropout_prob=0, attention_probs_dropout_prob=0, max_position_embeddings=32)
MODELS = {  # name → (class, config)
    "bert": (transformers.BertForSequenceClassification, transformers.BertConfig(**SMALL, **CLASSES)),
    "roberta": (transformers.RobertaForSequenceClassification, transformers.RobertaConfig(**{**SMALL, **CLASSES, "max_position_embeddings": 34,
                                                                                            "type_vocab_size": 1})),
    "albert": (transformers.AlbertForSequenceClassification, transformers.AlbertConfig(**SMALL, **CLASSES, embedding_size=16)),
    "gpt2": (transformers.GPT2LMHeadModel, transformers.GPT2Config(
        vocab_size=101, n_embd=32, n_head=4, n_layer=2, n_positions=64, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, pad_token_id=0, bos_token_id=1,
        eos_token_id=2)),
    "llama": (transformers.LlamaForCausalLM, transformers.LlamaConfig(**SMALL, num_key_value_heads=2, max_position_embeddings=64, pad_token_id=0,
                                                                      tie_word_embeddings=False)),
    "t5": (transformers.T5ForConditionalGeneration, transformers.T5Config(
        vocab_size=101, d_model=32, d_kv=8, d_ff=48, num_heads=4, num_layers=2, dropout_rate=0, decoder_start_token_id=0)),
}
# variant → (AdapterHub's configuration, graft's method with the same keys)
CONFIGURATIONS = {
    "houlsby": (adapters.DoubleSeqBnConfig(reduction_factor=8), {"name": "houlsby", "reduction_factor": 8}),
    "pfeiffer": (adapters.SeqBnConfig(reduction_factor=5), {"name": "pfeiffer", "reduction_factor": 5}),
    "parallel": (adapters.ParBnConfig(), {"name": "parallel"}),
    "compacter": (adapters.CompacterConfig(reduction_factor=8), {"name": "compacter", "reduction_factor": 8}),
    "compacter++": (adapters.CompacterPlusPlusConfig(reduction_factor=4, shared_phm_rule=False, factorized_phm_rule=True),
                    {"name": "compacter++", "reduction_factor": 4, "shared_phm_rule": False, "factorized_phm_rule": True}),
    "leave-out": (adapters.DoubleSeqBnConfig(reduction_factor=8, leave_out=[0]), {"name": "houlsby", "reduction_factor": 8, "leave_out": [0]}),
    "scaled": (adapters.DoubleSeqBnConfig(reduction_factor={"0": 4, "default": 8}, scaling="channel", ln_after=True, non_linearity="gelu_new"),
               {"name": "houlsby", "reduction_factor": {"0": 4, "default": 8}, "scaling": "channel", "ln_after": True,
                "non_linearity": "gelu_new"}),
    "normed": (adapters.SeqBnConfig(reduction_factor=8, residual_before_ln=False, ln_after=True, adapter_residual_before_ln=True),
               {"name": "pfeiffer", "reduction_factor": 8, "residual_before_ln": False, "ln_after": True,
                "adapter_residual_before_ln": True}),
    # A norm that the file holds twice: AdapterHub can only pickle it.
    "pickled": (adapters.DoubleSeqBnConfig(reduction_factor=8, ln_before=True), {"name": "houlsby", "reduction_factor": 8, "ln_before": True}),
    "cross": (adapters.DoubleSeqBnConfig(reduction_factor=8, cross_adapter=True),
              {"name": "houlsby", "reduction_factor": 8, "cross_adapter": True}),
}


def applies(model, variant):
    if variant == "cross":
        return model == "t5"
    # ALBERT's one shared layer has nothing to leave out; AdapterHub saves no shared rule of a T5 that is its own network.
    return (model, variant) not in {("albert", "leave-out"), ("t5", "compacter")}


def write_model(name, folder):
    cls, config = MODELS[name]
    torch.manual_seed(len(name))
    model = cls(config)
    move(model.parameters())
    model.save_pretrained(folder)


def write_inputs(name, path):
    ids, mask = some_rows(101)
    # RoBERTa counts positions by ids that are not padding (1).
    inputs = {"input_ids": ids * mask + (1 - mask) * (1 if name == "roberta" else 0), "attention_mask": mask}
    if name == "t5":
        inputs["labels"] = torch.randint(5, 101, (3, 6))
    save_file(inputs, path)
    return inputs


def base_model(name, folder):
    model = MODELS[name][0].from_pretrained(folder, attn_implementation="eager").eval()
    adapters.init(model)
    return model


def difference(ours, theirs, inputs):
    """Largest relative difference at positions that count."""
    if theirs.dim() == 3 and "labels" not in inputs:
        used = inputs["attention_mask"].bool()
        ours, theirs = ours[used], theirs[used]
    return float((ours - theirs).abs().max() / theirs.abs().max())


def from_adapterhub(graft, name, variant, work, inputs):
    """→ complaints about an adapter that AdapterHub saved"""
    model_folder, folder = os.path.join(work, name), os.path.join(work, "from_adapterhub")
    model = base_model(name, model_folder)
    model.add_adapter("task", config=CONFIGURATIONS[variant][0])
    model.train_adapter("task")
    model.eval()
    move_trained(model)
    model.save_adapter(folder, "task", use_safetensors=variant != "pickled")
    error = difference(graft_logits(graft, model_folder, folder, work), logits_of(model, inputs), inputs)
    return [] if error < TOLERANCE else [f"what AdapterHub saved: logits differ by {error:.1e}"]


def from_flexible(graft, name, work, inputs):
    """→ complaints about an adapter and a flexible head on AdapterHub's own class"""
    model_folder, folder = os.path.join(work, name), os.path.join(work, "from_flexible")
    model = adapters.AutoAdapterModel.from_pretrained(model_folder, attn_implementation="eager").eval()
    model.add_adapter("task", config="seq_bn")
    model.add_classification_head("task", num_labels=4)
    model.train_adapter("task")
    model.eval()
    move_trained(model)
    model.save_adapter(folder, "task")
    error = difference(graft_logits(graft, model_folder, folder, work), logits_of(model, inputs), inputs)
    return [] if error < TOLERANCE else [f"a flexible head: logits differ by {error:.1e}"]


def from_graft(graft, make_adapter, name, method, work, inputs):
    """→ complaints about an adapter that graft saved"""
    model_folder = os.path.join(work, name)
    folder = made_by_graft(make_adapter, model_folder, method, work)
    model, loading = base_model(name, model_folder), {}
    loaded = model.load_adapter(folder, use_safetensors=True, set_active=True, loading_info=loading)
    model.eval()
    complaints = [f"{kind}: {loading[kind][:4]}" for kind in ("missing_keys", "unexpected_keys") if loading.get(kind)]
    error = difference(graft_logits(graft, model_folder, folder, work), logits_of(model, inputs), inputs)
    if not error < TOLERANCE:
        complaints.append(f"what graft saved: logits differ by {error:.1e}")
    model.set_active_adapters(None)
    if not difference(logits_of(model, inputs), graft_logits(graft, model_folder, folder, work), inputs) > 1e-3:
        complaints.append(f"{loaded} changes nothing")
    return complaints


def check(name, variant, args, work):
    write_model(name, os.path.join(work, name))
    inputs = write_inputs(name, os.path.join(work, "inputs.safetensors"))
    complaints = from_adapterhub(args.graft, name, variant, work, inputs)
    if variant == "pfeiffer" and name in ("bert", "roberta", "albert"):
        complaints += from_flexible(args.graft, name, work, inputs)
    return complaints + from_graft(args.graft, args.make_adapter, name, CONFIGURATIONS[variant][1], work, inputs)


def cases():
    for name in MODELS:
        for variant in CONFIGURATIONS:
            if applies(name, variant):
                yield f"{name}.{variant}", lambda args, work, name=name, variant=variant: check(name, variant, args, work)


if __name__ == "__main__":
    run(__doc__, cases(), f"adapters {adapters.__version__}, transformers {transformers.__version__}")
