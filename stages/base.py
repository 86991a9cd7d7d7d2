"""Get the base model that every fine-tuning starts from.

python -m stages.base --settings S --out DIR

`model.scratch` makes one with random weights. `model.path` links the files of a local directory or
of the hub's cache, without copying them, or dequantizes a GGUF file to a bfloat16 checkpoint.
"""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.artifacts import store
from stages.common.errors import UserError
from stages.common.seeds import derive_seed
from stages.experiments.sources import Model, Scratch
from stages.lm.families import read_config
from stages.prompts import END_TURN, MARKERS
from stages.running import command, origin_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

GGUF = ".gguf"
PADDING = "<|endoftext|>"
WORDS = (r"\boxed{", "}")
# The usual values suit long contexts and wide models. With wavelengths of 6 to 500 tokens and a
# larger initializer range, a model of width 100 learns where to attend in half the steps.
ROPE_THETA = 100.0
INITIALIZER_RANGE = 0.04


def main(argv: list[str] | None = None) -> None:
    """Get the base model and write its directory."""
    parser = command.parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="directory of the model")
    args = parser.parse_args(argv)
    model = args.settings.model
    with store.atomic(args.out) as unfinished:
        if model.scratch is not None:
            make(model.scratch, derive_seed(args.settings.seed, "base"), unfinished)
            sources = []
        else:
            sources = [find(model)]
            put(sources[0], unfinished)
        origin = origin_of.output("base", args.settings, {}, sources=sources)
        provenance = command.provenance(origin, args.settings, seconds=0.0, device="cpu")
        store.write_json(unfinished / "provenance.json", provenance)


def find(model: Model) -> Path:
    """Path of an existing model: a local directory, a GGUF file, or a snapshot of the hub."""
    if model.path is None:
        raise UserError(
            "model.path is not set; give a local directory, a .gguf file or a name on the hub"
        )
    local = Path(model.path).expanduser()
    if local.is_dir():
        return command.model_directory(local)
    if local.suffix == GGUF and local.is_file():
        return local.resolve()
    outside = local.is_absolute() or model.path.startswith((".", "~"))
    if outside or local.suffix == GGUF or model.path.count("/") != 1:
        raise UserError(f"{model.path}: no such directory or .gguf file (setting model.path)")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
    try:
        directory = snapshot_download(model.path, revision=model.revision, allow_patterns=patterns)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"{model.path}: not a local directory, and the hub did not provide it "
            f"({type(error).__name__}); check model.path and the network"
        ) from None
    return command.model_directory(Path(directory))


def put(model: Path, out: Path) -> None:
    """Link or convert a model into `out`, if the other steps support its family."""
    if model.suffix == GGUF and model.is_file():
        dequantize(model, out)
    else:
        read_config(model)
        link(model, out)


def dequantize(file: Path, out: Path) -> None:
    """Write the model of a GGUF file as a bfloat16 checkpoint with its tokenizer.

    Raises
    ------
    UserError
        The package `gguf` is missing, or transformers cannot read the file.
    """
    if importlib.util.find_spec("gguf") is None:
        raise UserError(f"{file}: reading GGUF files needs the package gguf: pip install gguf")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    how = {"gguf_file": file.name}
    try:
        read_config(file.parent, **how)
        model: Any = AutoModelForCausalLM.from_pretrained(file.parent, **how, dtype=torch.bfloat16)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **how)
    except (ValueError, OSError, NotImplementedError) as error:
        raise UserError(f"{file}: transformers cannot read this GGUF file: {error}") from None
    # Otherwise the checkpoint would be saved, and loaded, as a quantized one.
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def link(model: Path, out: Path) -> None:
    """Link the files of a model into a new directory, which also holds its provenance."""
    out.mkdir()
    for file in model.iterdir():
        if file.is_file() and file.name != "provenance.json":
            (out / file.name).symlink_to(file.resolve())


def make(scratch: Scratch, seed: int, out: Path) -> None:
    """Write a Qwen3-architecture checkpoint with random weights and a character tokenizer."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = character_tokenizer(scratch.characters)
    end = tokenizer.convert_tokens_to_ids(END_TURN)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=scratch.hidden_size,
        num_hidden_layers=scratch.layers,
        num_attention_heads=scratch.heads,
        num_key_value_heads=scratch.key_value_heads,
        head_dim=scratch.hidden_size // scratch.heads,
        intermediate_size=scratch.intermediate_size,
        max_position_embeddings=scratch.max_positions,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        initializer_range=INITIALIZER_RANGE,
        tie_word_embeddings=True,
        eos_token_id=end,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(config)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def character_tokenizer(characters: str) -> "PreTrainedTokenizerFast":
    """A tokenizer with one token per character, per marker and per word of `WORDS`."""
    from tokenizers import AddedToken, Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {character: index for index, character in enumerate(dict.fromkeys(characters))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in WORDS])
    tokenizer.add_special_tokens([PADDING, *MARKERS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_TURN,
        pad_token=PADDING,
        clean_up_tokenization_spaces=False,
    )


if __name__ == "__main__":
    command.run(main)
