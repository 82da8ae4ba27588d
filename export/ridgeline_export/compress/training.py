"""How a model is trained, whatever for: the settings of the loop in recover/."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ridgeline_export.compress.setting import setting

OPTIMIZERS = ("sgd", "momentum", "adam", "adamw", "rmsprop", "adagrad")
SCHEDULES = ("constant", "linear", "cosine", "exponential", "step", "cyclic", "one-cycle")
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True, slots=True)
class Training:
    """Settings of a training run; the defaults suit distillation of a small encoder on a CPU."""

    epochs: float = setting(3.0, help="Passes over the training texts; parts of one are fine.", above=0)
    max_steps: int | None = setting(None, help="Optimizer steps to end after, whatever the epochs.", least=1)
    optimizer: str = setting("adamw", help="How gradients become steps.", choices=OPTIMIZERS)
    learning_rate: float = setting(5e-4, help="Learning rate at its highest.", above=0)
    momentum: float = setting(0.9, help="Of the optimizers momentum and rmsprop.", least=0, below=1)
    weight_decay: float = setting(
        0.01, help="Decoupled, but for adam; biases, norms and embeddings have none.", least=0
    )
    schedule: str = setting("linear", help="How the learning rate goes on after its warm-up.", choices=SCHEDULES)
    warmup: float = setting(
        0.06, help="Share of all steps over which the rate rises linearly from zero.", least=0, below=1
    )
    decay: float = setting(
        0.1,
        help="What remains of the rate at the end (exponential), after each step down, or at a cycle's low.",
        above=0,
        most=1,
    )
    cycles: int = setting(4, help="Steps down (step) or cycles (cyclic) over the whole run.", least=1)
    layer_decay: float = setting(1.0, help="Factor of the rate from each layer to the one below it.", above=0, most=1)
    batch_texts: int = setting(64, help="Texts of a batch.", least=1)
    accumulate: int = setting(1, help="Batches whose gradients make one step.", least=1)
    clip_norm: float | None = setting(1.0, help="Largest norm of a step's gradients; 0 never clips.", least=0)
    dropout: float | None = setting(None, help="Dropout everywhere; the model's own when not given.", least=0, below=1)
    label_smoothing: float = setting(0.0, help="Share of a label's weight spread over all labels.", least=0, below=1)
    ema: float | None = setting(
        None, help="Keep an average of the weights with this decay, such as 0.999.", above=0, below=1
    )
    patience: int | None = setting(
        None, help="Evaluations without gain after which training stops; the best weights are kept.", least=1
    )
    evaluations: int = setting(1, help="Evaluations on held-back texts per epoch.", least=1)
    precision: str = setting("bf16", help="Of the matmuls: fp32, or bf16 by autocast.", choices=PRECISIONS)
    max_tokens: int = setting(128, help="Texts are cut to so many tokens in training.", least=8)
    devices: tuple[str, ...] = setting(("cpu",), help="cpu, cuda:0, or several for data parallelism: cuda:0,cuda:1.")
    checkpoint_s: float = setting(60.0, help="Seconds between checkpoints, from which a killed run goes on.", least=0)
    seed: int = setting(0, help="Of everything random; the same seed gives the same weights.", least=0)


@dataclass(frozen=True, slots=True)
class DataSettings:
    """What a method trains, measures and judges on."""

    data: str = setting(
        "packages",
        help="'packages' (docstrings of the standard library and the installed packages), 'stdlib', "
        "'documents' (all docstrings of a module in one, for long inputs), "
        "'stdlib-labels' (the ten largest packages of the standard library as classes), or a file: .txt, one text a "
        "line; .jsonl, .csv or .tsv with text, text_pair and label.",
    )
    held_out: Path | None = setting(
        None, help="File to judge on; then all of --data is for training. Else --data is split by a hash of each text."
    )
    train_texts: int | None = setting(None, help="Train on so many texts at most.", least=1)
    quality_texts: int = setting(1000, help="Texts that the quality is measured on.", least=32)
