"""The training run itself, on one device or as one of several processes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ridgeline_export.compress.progress import Progress
from ridgeline_export.compress.recover.checkpoint import CHECKPOINT_NAME
from ridgeline_export.compress.recover.dropout import dropout_of
from ridgeline_export.compress.recover.ema import make_average
from ridgeline_export.compress.recover.groups import parameter_groups
from ridgeline_export.compress.recover.objective import Batch, Hook, Judgement, Objective, Trained
from ridgeline_export.compress.recover.optimizers import make_optimizer
from ridgeline_export.compress.recover.pace import Pace
from ridgeline_export.compress.recover.plan import make_plan
from ridgeline_export.compress.recover.schedules import make_schedule
from ridgeline_export.compress.recover.seeding import own_randomness, seed_all
from ridgeline_export.compress.recover.state import Record, State, identity_of
from ridgeline_export.compress.recover.tokens import Tokens
from ridgeline_export.compress.recover.world import World
from ridgeline_export.compress.training import Training
from ridgeline_export.errors import TrainingError

Schedule = Callable[[Any, Training, int], Any]
Watch = Callable[[int, Judgement], None]


def fit(
    model: Any,
    objective: Objective,
    tokens: Tokens,
    training: Training,
    directory: Path | None,
    progress: Progress,
    hooks: Sequence[Hook],
    world: World,
    *,
    schedule: Schedule = make_schedule,
    watch: Watch | None = None,
) -> Trained:
    """Train a model in place; afterwards it is where it was, in evaluation mode and without gradients.

    directory: for checkpoints; None keeps none
    schedule:  makes the schedule of the learning rate
    watch:     told of each evaluation, with the steps done; what it raises ends the run
    Raises TrainingError when loss, gradients or weights are no numbers any more, or the device has too little memory;
    OutputError when the disk is full.
    """
    import torch

    home = next(model.parameters()).device
    modules = objective.modules
    try:
        model.to(world.device)
        if modules is not None:
            modules.to(world.device)
        with own_randomness(world.device), dropout_of(model, training.dropout):
            run = _Run(model, objective, tokens, training, directory, progress, hooks, world, schedule, watch)
            return run.train()
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"{world.device} has too little memory for batches of {training.batch_texts} texts of up to "
            f"{int(tokens.lengths.max())} tokens; try a smaller --batch-texts with a larger --accumulate, or fewer "
            "--max-tokens"
        ) from error
    finally:
        for module in (model,) if modules is None else (model, modules):
            module.zero_grad(set_to_none=True)
            module.eval()
        model.to(home)


class _Run:
    def __init__(
        self,
        model: Any,
        objective: Objective,
        tokens: Tokens,
        training: Training,
        directory: Path | None,
        progress: Progress,
        hooks: Sequence[Hook],
        world: World,
        schedule: Schedule,
        watch: Watch | None,
    ) -> None:
        self.model, self.objective, self.tokens, self.training = model, objective, tokens, training
        self.directory, self.progress, self.hooks, self.world, self.watch = directory, progress, hooks, world, watch
        self.plan = make_plan(tokens.lengths, training)
        groups = parameter_groups(model, objective.modules, training)
        if not groups:
            raise TrainingError("the model has no weights that can be trained: all of them are frozen")
        self.trained = [parameter for group in groups for parameter in group["params"]]
        optimizer = make_optimizer(groups, training)
        self.state = State(
            model=model,
            modules=objective.modules,
            optimizer=optimizer,
            schedule=schedule(optimizer, training, self.plan.steps),
            average=make_average(model, training.ema) if training.ema is not None else None,
            hooks=hooks,
            record=Record(),
        )

    def train(self) -> Trained:
        """Make the steps that are left; the model has the weights that the run is for."""
        identity = identity_of(self.model, self.objective, self.tokens, self.training)
        if self.directory is not None:
            self.state.resume(self.directory, identity)
        record = self.state.record
        resumed_at = record.step
        self.pace = Pace(self.plan.steps, record.step, record.seconds)
        loss_of = self.world.wrap(self.model, self.objective)
        saved_at = time.monotonic()
        while not record.is_over:
            loss, rate = self._step(loss_of)
            if self.world.rank == 0 and self.plan.is_judged_after(record.step):
                self._judge(loss, rate)
            record.is_over = self.world.agree(record.is_over or record.step == self.plan.steps)
            if self.world.rank == 0:
                self._show(loss, rate)
                if record.is_over or time.monotonic() - saved_at >= self.training.checkpoint_s:
                    self._save(identity, rate)
                    saved_at = time.monotonic()
        self._take_weights()
        return Trained(
            steps=record.step,
            seconds=self.pace.seconds(),
            history=tuple(record.history),
            best=record.best or Judgement("", math.nan, {}),
            resumed_at=resumed_at,
        )

    def _step(self, loss_of: Any) -> tuple[float, float]:
        """Loss of a step's texts, and the rate."""
        import torch

        record, state, step = self.state.record, self.state, self.state.record.step
        seed_all(self.training.seed, step, self.world.rank)
        for module in (self.model,) if state.modules is None else (self.model, state.modules):
            module.train()
        state.optimizer.zero_grad(set_to_none=True)
        rate = max(float(group["lr"]) for group in state.optimizer.param_groups)
        batches = self.plan.batches(step)
        texts = sum(len(batch) for batch in batches)
        total = torch.zeros((), device=self.world.device)
        for number, chosen in enumerate(batches):
            share, counted = self.world.share(chosen)
            batch = _moved(self.tokens.batch(share), self.world.device)
            with self.world.exchange(loss_of, is_last=number == len(batches) - 1):
                with torch.autocast(self.world.device.type, torch.bfloat16, enabled=self.training.precision == "bf16"):
                    loss = loss_of(batch)
                # The mean over all of the step's texts, however many a batch or a device has of them.
                loss = loss.float() * (counted / texts)
                (loss * self.world.size).backward()
            total += loss.detach()
        self._check_and_clip(self.world.total(total), rate)
        for hook in self.hooks:
            hook.before_step(step, self.plan.steps)
        state.optimizer.step()
        for hook in self.hooks:
            hook.after_step(step, self.plan.steps)
        state.schedule.step()
        if state.average is not None:
            state.average.update_parameters(self.model)
        record.step += 1
        return float(total), rate

    def _check_and_clip(self, loss: float, rate: float) -> None:
        from torch import nn

        norm = nn.utils.get_total_norm([each.grad for each in self.trained if each.grad is not None])
        if self.training.clip_norm:
            nn.utils.clip_grads_with_norm_(self.trained, self.training.clip_norm, norm)
        if not math.isfinite(loss) or not math.isfinite(float(norm)):
            raise self._diverged(
                "loss is" if not math.isfinite(loss) else "gradients are", self.state.record.step + 1, rate
            )

    def _judge(self, loss: float, rate: float) -> None:
        """Evaluate, and with patience keep the best weights and see whether to go on."""
        import torch

        record, patience = self.state.record, self.training.patience
        judged = self.model if self.state.average is None else self._average()
        judged.eval()
        with torch.no_grad():
            judgement = self.objective.evaluate(judged)
        entry = {"step": record.step, "epoch": record.step / self.plan.steps_per_epoch, "loss": loss, "rate": rate}
        record.history.append({**entry, **judgement.figures, judgement.name: judgement.figure})
        if patience is None or record.best is None or _is_better(judgement, record.best):
            record.best, record.waited = judgement, 0
            if patience is not None:
                record.weights = {name: value.cpu().clone() for name, value in judged.state_dict().items()}
        else:
            record.waited += 1
            record.is_over = record.waited >= patience
        if self.watch is not None:
            self.watch(record.step, judgement)

    def _show(self, loss: float, rate: float) -> None:
        record = self.state.record
        figure = None
        if record.best is not None:
            figure = record.best.name, record.history[-1][record.best.name]
        texts = sum(len(batch) for batch in self.plan.batches(record.step - 1))
        epoch = record.step / self.plan.steps_per_epoch
        self.progress.train(self.pace.step(record.step, epoch, loss, rate, texts, figure))

    def _save(self, identity: str, rate: float) -> None:
        if not self.state.is_finite():
            raise self._diverged("weights are", self.state.record.step, rate)
        self.state.record.seconds = self.pace.seconds()
        if self.directory is not None:
            self.state.save(self.directory, identity)

    def _take_weights(self) -> None:
        if self.state.record.weights is not None:
            self.model.load_state_dict(self.state.record.weights)
        elif self.state.average is not None:
            self.model.load_state_dict(self._average().state_dict())

    def _average(self) -> Any:
        average = self.state.average.module
        for hook in self.hooks:
            hook.settle(average)
        return average

    def _diverged(self, what: str, step: int, rate: float) -> TrainingError:
        tries = ["a lower --learning-rate", "a smaller --clip-norm" if self.training.clip_norm else "--clip-norm 1"]
        if self.training.precision != "fp32":
            tries.append("--precision fp32")
        kept = ""
        if self.directory is not None and (self.directory / CHECKPOINT_NAME).is_file():
            kept = f"; the last good checkpoint is kept in {self.directory}"
        return TrainingError(
            f"the {what} not finite any more at step {step} of {self.plan.steps}, at a learning "
            f"rate of {rate:.2g}{kept}; try {', '.join(tries[:-1])} or {tries[-1]}, and --fresh (a recipe's step "
            "begins anew by itself)"
        )


def _is_better(judgement: Judgement, best: Judgement) -> bool:
    return judgement.figure > best.figure or (math.isnan(best.figure) and not math.isnan(judgement.figure))


def _moved(batch: Batch, device: Any) -> Batch:
    """The batch on a device; its indices stay on the CPU, where what is cached under them lies."""
    labels = None if batch.labels is None else batch.labels.to(device)
    return Batch({name: tensor.to(device) for name, tensor in batch.inputs.items()}, batch.indices, labels)
