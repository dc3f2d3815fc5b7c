"""The trainer: plays conversations, asks the expert what it would have said, and learns from both (Section 4.1)."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import transformers
from jaxtyping import Float

from undelude.hf._marks.chat import check_length, check_words
from undelude.hf._marks.do_tokens import DoTokens, context, num_words
from undelude.hf._marks.generation import evaluating
from undelude.hf._teaching import guards
from undelude.hf._teaching.adapters import with_adapter
from undelude.hf._teaching.checkpoints import Checkpoints
from undelude.hf._teaching.config import CounterfactualConfig
from undelude.hf._teaching.conversations import Conversation, Replies
from undelude.hf._teaching.experts import Expert, PromptedExpert, Row
from undelude.hf._teaching.functions import check_function
from undelude.hf._teaching.losses import CONVERGES_TO, Divergence, divergence
from undelude.hf._teaching.packing import packs
from undelude.hf._teaching.playing import (
    Behaviour,
    CallableBehaviour,
    Environment,
    ExpertBehaviour,
    Policy,
    Rollouts,
    play,
)
from undelude.hf._teaching.sampler import KeyedSampler, generators
from undelude.hf._teaching.sequences import Batch, collate, predictions, score

# The parties that draw random numbers in a conversation; each has its own stream.
BEHAVIOUR, ENVIRONMENT, EXPERT = range(3)
# Batches of evaluation draw from other streams than those of training.
EVALUATION = 2**31


class CounterfactualTrainer(Checkpoints, transformers.Trainer):
    """A `transformers.Trainer` that teaches a language model to act without mistaking its own words for evidence.

    In each step it lets the model (or any behaviour that is not shown the privileged context) talk to an environment,
    marks the model's turns do(x), asks an expert that is shown the privileged context what it would have said at each
    of them, and descends

        mean l(expert's words) + factual_weight * mean l(words of others),    l in nats,

    with means over the scored tokens of the whole optimiser step: of all processes and accumulation steps. With the
    forward KL, and any behaviour that is not shown theta, its limit is `Q(A | do(a), o)` (Appendix A).

    The random draws of row i in step u depend on the seed, u and i alone. So data do not depend on the number of
    devices, and a resumed run equals one without interruption.

    Args:
        model: a causal language model; with `DoTokens.wrap`, unless the objective does not mark.
        args: the configuration.
        expert: who knows the privileged context: `PromptedExpert`, `EndpointExpert`, `CallableExpert`, or any `Expert`.
        environment: `(messages, row) -> text | messages | None`, the world's reply to the conversation so far, given
            the row of the data set, privileged context included; None ends the conversation. Without an environment, a
            conversation is one turn. If it draws random numbers, it should take `rng`, or depend on the row alone.
        rollouts: who executes the rows that have no `messages`: `"policy"`, the model; a function
            `(messages, prompt and public columns) -> text`, with `rng` if it is random; `"expert"`, for the
            objectives that imitate transcripts; `"dataset"` if all rows have `messages`. By default, as the objective
            has it.
        train_dataset: with the columns `prompt` and `privileged_context`, or `messages` with an author each.
        eval_dataset: likewise.
        processing_class: the tokenizer, with a chat template.
        peft_config: of an adapter; the marks are trained beside it.
        **kwargs: of `transformers.Trainer`.

    Raises:
        TypeError: an argument is of another type, or a function takes other arguments.
        ValueError: the model has no marks, or a guard refuses (see `undelude.hf._teaching.guards`).

    Warns:
        UserWarning: the divergence has another limit than the interventional answer; in training, nearly all of the
            expert's first turns are empty or cut.
    """

    args: CounterfactualConfig
    processing_class: Any

    def __init__(
        self,
        model: Any = None,
        args: CounterfactualConfig | None = None,
        *,
        expert: Expert | None = None,
        environment: Environment | None = None,
        rollouts: Rollouts | Expert | str | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        peft_config: Any = None,
        **kwargs: Any,
    ):
        args = CounterfactualConfig() if args is None else args
        if not isinstance(args, CounterfactualConfig):
            raise TypeError(f"args must be a CounterfactualConfig, not {type(args).__name__}.")
        if processing_class is None:
            raise TypeError("CounterfactualTrainer needs the tokenizer: processing_class=tokenizer.")
        if not isinstance(model, torch.nn.Module):
            raise TypeError(f"model must be a model, not {type(model).__name__}: load it before.")
        self.objective, self.factual_weight = args.resolve()
        self.expert, self.environment = expert, environment
        self.rollouts = self.objective.executes if rollouts is None else rollouts
        do_tokens = DoTokens.of(model)
        if self.objective.marked and do_tokens is None:
            raise ValueError(
                f'objective="{args.objective}" marks the model\'s own words, and this model has no marks: '
                'model = DoTokens.wrap(model), or mark="none" for the ablation.'
            )
        # The size of the vocabulary, which is the offset of do(x); None if own words are not marked.
        self.offset: int | None = do_tokens.vocab_size if self.objective.marked and do_tokens is not None else None
        if peft_config is not None:
            model = with_adapter(model, peft_config)
        if do_tokens is not None:
            do_tokens.granularity = args.granularity
        if self.offset is not None and do_tokens is not None and not do_tokens.is_exported:
            guards.check_marks_train(model)
        if isinstance(expert, PromptedExpert):
            expert.bind(model, args.chat_template_kwargs)
        if args.divergence != "forward_kl":
            warnings.warn(
                f'divergence="{args.divergence}" converges to {CONVERGES_TO[args.divergence]}; "forward_kl" to '
                f"{CONVERGES_TO['forward_kl']}.",
                UserWarning,
                stacklevel=2,
            )
        guards.check_ignored(args, kwargs)
        self._check(args, processing_class, model, train_dataset)
        super().__init__(
            model=model,
            args=args,
            data_collator=_rows,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            **kwargs,
        )
        if self.args.n_gpu > 1:
            raise ValueError(
                f"This process sees {self.args.n_gpu} GPUs: start one process for each, accelerate launch "
                f"--num_processes {self.args.n_gpu} ..., or set CUDA_VISIBLE_DEVICES."
            )
        if (self.is_fsdp_enabled or self.is_deepspeed_enabled) and self.rollouts == "policy":
            raise ValueError(
                'rollouts="policy" needs the whole model on each device, and FSDP or DeepSpeed shards it. Data '
                "parallelism (accelerate launch --multi_gpu) works; or let a function execute, rollouts=f."
            )
        # The loss is a mean over the whole optimiser step.
        self.loss_is_scaled_for_ga = True
        self.model_tags = ["undelude", "counterfactual-teaching"]
        self._tree: bool | None = False if args.packing == "rows" else None
        self._blindness = self._make_blindness()
        self._silence = guards.Silence()
        self._held: tuple[list[dict[str, Any]], Float[torch.Tensor, " 2"]] | None = None
        self._replies = Replies(processing_class, args.chat_template_kwargs)
        self._num_evaluated = 0
        self._sums = torch.zeros(9, dtype=torch.float64)

    def _check(self, args: CounterfactualConfig, tokenizer: Any, model: torch.nn.Module, dataset: Any) -> None:
        """Raise if the parts do not fit together."""
        guards.check_end(tokenizer, self.offset, args.chat_template_kwargs)
        if isinstance(self.rollouts, str):
            if self.rollouts not in ("policy", "dataset", "expert"):
                raise ValueError(
                    f'rollouts must be "policy", "dataset", "expert" or a function, not {self.rollouts!r}.'
                )
        elif not callable(self.rollouts):
            guards.check_executor(self.rollouts, self.expert)
            raise TypeError(
                f"rollouts must be a name or a function (messages, row) -> text, not {self.rollouts!r:.60}."
            )
        guards.check_expert(self.expert)
        if self.environment is not None:
            check_function(self.environment, "environment")
        if not isinstance(self.rollouts, str):
            check_function(self.rollouts, "rollouts")
        imitates = args.objective in ("sft", "isft")
        if self.rollouts == "expert" and not imitates:
            guards.check_executor(self.expert, self.expert)
        guards.check_executor(None if isinstance(self.rollouts, str) else self.rollouts, self.expert)
        if self.expert is None and (self.objective.asks or self.rollouts == "expert"):
            raise ValueError(f'objective="{args.objective}" asks an expert what it would say: pass expert=.')
        width = getattr(getattr(model, "config", None), "vocab_size", None)
        guards.check_vocabulary(self.expert, tokenizer, width)
        columns = getattr(dataset, "column_names", None) or (list(dataset[0]) if hasattr(dataset, "__len__") else None)
        if columns is not None:
            needs = self.rollouts != "dataset" and (self.objective.asks or self.rollouts == "expert")
            needs = needs and self.objective.privileged
            stored = self.rollouts == "dataset"
            guards.check_columns(columns, needs_context=needs, stored=stored, public=args.public_columns)

    def _make_blindness(self) -> "guards.Blindness | None":
        """Return the test that the executor is blind to theta; None if the model itself executes."""
        if self.objective.name != "counterfactual" or self.rollouts == "policy" or self.expert is None:
            return None
        return guards.Blindness(self.expert)

    # The order of the rows ------------------------------------------------------------------------

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        dataset: Any = self.train_dataset if train_dataset is None else train_dataset
        if not hasattr(dataset, "__len__"):
            if self.args.steps_per_generation > 1:
                raise ValueError("steps_per_generation > 1 needs a data set with a length, not a stream.")
            return None
        batch = self._train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return KeyedSampler(
            len(dataset), seed, lambda: int(self.state.epoch or 0), batch, self.args.steps_per_generation
        )

    # Collecting -----------------------------------------------------------------------------------

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """Take the rows of one optimiser step, play and score their conversations, and count what is scored."""
        parts, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not parts:
            return [], None
        step, reuse = self.state.global_step, self.args.steps_per_generation
        if step % reuse == 0:
            self._held = self._collect(parts, step)
        if self._held is None:
            raise ValueError(
                f"The checkpoint is of step {step}, in the middle of {reuse} steps on the same conversations "
                "(steps_per_generation), which are not stored: resume from a step that is a multiple."
            )
        return list(self._held[0]), self._held[1]

    def _collect(self, parts: Sequence[dict[str, Any]], step: int) -> tuple[list[dict[str, Any]], torch.Tensor]:
        """Return the batches of this process, and the counts over all processes."""
        n, rank, b = self.args.world_size, self.args.process_index, self._train_batch_size
        rows, keys = [], []
        for i, part in enumerate(parts):
            rows += part["rows"]
            keys += [(step, (i * n + rank) * b + j) for j in range(len(part["rows"]))]
        sizes = [len(part["rows"]) for part in parts]
        batches = self.make_batches(rows, keys, sizes)
        counts: Any = torch.stack([batch["batch"].counts() for batch in batches]).sum(0).to(self.args.device)
        if n > 1:
            counts = self.accelerator.reduce(counts, reduction="sum")
        return batches, counts

    def make_batches(
        self, rows: Sequence[Row], keys: Sequence[tuple[int, int]], sizes: Sequence[int]
    ) -> list[dict[str, Any]]:
        """Play and score the conversations of rows.

        Args:
            rows: of the data set.
            keys: of the random draws of each row.
            sizes: the number of rows in each batch.

        Returns:
            For each batch a dict of `input_ids` and `batch`.
        """
        conversations = self.converse(rows, keys)
        guards.check_leak(conversations, self.args.privileged_leak)
        if self._blindness is not None and not self._blindness.is_over:
            self._blindness.update(conversations, generators(self.args.seed, keys, EXPERT))
        scored = score(
            conversations,
            generators(self.args.seed, keys, EXPERT),
            self.objective,
            self.expert,
            V=self.offset,
            granularity=self.args.granularity,
            max_new_tokens=self.args.max_new_tokens,
            stored_weight=self.args.transcript_weight,
            public_columns=self.args.public_columns,
        )
        if not self._silence.is_over:
            self._silence.update(conversations, scored)
        words = num_words(self.accelerator.unwrap_model(self.model))
        for s in scored:
            for _, ids in s.branches:
                check_words(ids, words, self.processing_class)
        batches, i = [], 0
        for size in sizes:
            sequences = scored[i : i + size]
            i += size
            said = [turn for s in sequences for turn in s.said]
            if any(s.branches for s in sequences) and not self.packs:
                sequences = [row for s in sequences for row in s.rows()]
            batch = collate(sequences, fill=self.processing_class.pad_token_id or 0)
            batch.said = said
            batches.append({"input_ids": batch.inputs["input_ids"], "batch": batch})
        return batches

    @property
    def packs(self) -> bool:
        """Whether all turns of a conversation are scored in one pass."""
        if self._tree is None:
            model = self.accelerator.unwrap_model(self.model)
            V = getattr(getattr(model, "config", None), "vocab_size", None) or len(self.processing_class)
            self._tree = packs(model, V, self.args.device, self._longest(model))
            if self.args.packing == "tree" and not self._tree:
                raise ValueError(
                    'packing="tree" does not fit this model: its attention takes no mask of whole sequences, or has a '
                    'window that is shorter than a conversation. Use "auto" or "rows".'
                )
        return self._tree

    def _longest(self, model: Any) -> int:
        """Return the most tokens of a conversation."""
        return min(self.args.max_length or context(model), context(model))

    def converse(self, rows: Sequence[Row], keys: Sequence[tuple[int, int]] | None = None) -> list[Conversation]:
        """Return the conversation of each row: its transcript if it has one, else one that is played.

        With the model as it is now, before or after training. `measure_delusion` takes the messages of the result, see
        [your own simulator](../language.md#your-own-simulator).

        Args:
            rows: with the columns of the training data.
            keys: two whole numbers for each row, which name the streams of random numbers of its conversation: the
                model, the row and the key determine the conversation. Training uses the number of the step and that of
                the row in the batch. By default, row i has another key than in training, and always the same.

        Returns:
            Conversations, of which `messages` has `role`, `content` and `author` ("self" for the model's own turns),
            and `row` is the row.

        Raises:
            ValueError: a conversation is too long, or there are not as many keys as rows.
        """
        keys = [(EVALUATION, i) for i in range(len(rows))] if keys is None else keys
        if len(keys) != len(rows):
            raise ValueError(f"converse: {len(rows)} rows need as many keys, not {len(keys)}.")
        playing = [i for i, row in enumerate(rows) if not row.get("messages")]
        conversations = {i: self._replies.stored(row) for i, row in enumerate(rows) if row.get("messages")}
        if playing and self.rollouts == "dataset":
            raise ValueError('A row has no messages, and rollouts="dataset" takes all turns from there.')
        model = self.accelerator.unwrap_model(self.model)
        longest, words = self._longest(model), num_words(model)
        if playing:
            with evaluating(model):
                chosen = [keys[i] for i in playing]
                played = play(
                    [rows[i] for i in playing],
                    generators(self.args.seed, chosen, BEHAVIOUR),
                    generators(self.args.seed, chosen, ENVIRONMENT),
                    self._behaviour(model),
                    self.environment,
                    self._replies,
                    max_turns=self.args.max_turns,
                    max_length=longest,
                    # The end token is added to a turn that has none.
                    room=self.args.max_new_tokens + 1,
                )
            conversations.update(zip(playing, played, strict=True))
        for c in conversations.values():
            check_words(c.ids, words, self.processing_class)
            check_length(len(c.ids), longest, limit="max_length or the model's context")
        return [conversations[i] for i in range(len(rows))]

    def _behaviour(self, model: torch.nn.Module) -> Behaviour:
        if self.rollouts == "expert":
            assert self.expert is not None
            return ExpertBehaviour(self.expert, self.args.max_new_tokens)
        if callable(self.rollouts):
            return CallableBehaviour(self.rollouts, self.processing_class, self.args.public_columns)
        return Policy(
            model,
            self.offset,
            self.processing_class,
            # Without marks the words of a wrapped model stay plain.
            granularity="turn" if self.offset is None else self.args.granularity,
            max_new_tokens=self.args.max_new_tokens,
            temperature=self.args.temperature,
        )

    # Learning -------------------------------------------------------------------------------------

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return this batch's share of the loss of the whole optimiser step, in nats a token."""
        batch: Batch = inputs["batch"]
        counts = batch.counts() if num_items_in_batch is None else num_items_in_batch
        device = self.args.device
        logits = predictions(model, batch, device)
        loss = 0.0 * logits[:1, :1, :1].sum()
        sums = torch.zeros(9, dtype=torch.float64)
        groups: list[tuple[Any, float, Divergence]] = [
            (batch.actions, 1.0, self.args.divergence),
            (batch.observations, self.factual_weight, "forward_kl"),
        ]
        for k, (group, weight, kind) in enumerate(groups):
            if group is None:
                continue
            targets, w = group.targets.to(device), group.weight.to(device)
            chosen = logits.flatten(0, 1).index_select(0, (group.row * logits.shape[1] + group.position).to(device))
            total = (divergence(chosen, targets, kind, self.args.expert_floor) * w).sum()
            loss = loss + weight * total / counts[k].clamp_min(1e-9)
            sums[2 * k], sums[2 * k + 1] = total.detach().cpu(), w.sum().cpu()
            if k == 0:
                sums[4] = (targets.entropy() * w).sum().cpu()
        for author, is_cut in batch.said:
            k = 5 if author == "self" else 7
            sums[k : k + 2] += torch.tensor([float(is_cut), 1.0])
        if model.training:
            self._sums += sums
        if num_items_in_batch is not None:
            # Gradients are averaged over processes, and the counts are of all of them.
            loss = loss * self.accelerator.num_processes
        return (loss, {"logits": logits}) if return_outputs else loss

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Any, Any, Any]:
        """Return the loss of an evaluation batch, of the same conversations each time."""
        del prediction_loss_only, ignore_keys
        rows = inputs["rows"]
        keys = [
            (EVALUATION + self.args.process_index, int(i))
            for i in range(self._num_evaluated, self._num_evaluated + len(rows))
        ]
        self._num_evaluated += len(rows)
        (batch,) = self.make_batches(rows, keys, [len(rows)])
        with torch.no_grad(), self.compute_loss_context_manager():
            loss = self.compute_loss(model, batch)
        return loss.detach(), None, None

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Return the mean loss over the evaluation data, as `transformers.Trainer.evaluate` does."""
        self._num_evaluated = 0
        return super().evaluate(*args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the two losses beside their sum, and the entropy of the expert's distributions, all in nats a token.

        `cut_turns` is the share of the model's turns that had no room for their end in `max_new_tokens`;
        `expert_cut_turns` that of the expert's.
        """
        if "loss" in logs:
            sums: Any = self._sums
            if self.args.world_size > 1:
                sums = self.accelerator.reduce(sums.to(self.args.device), reduction="sum")
            action, num_actions, observation, num_observations, entropy, *turns = map(float, sums)
            for name, cut, num in (("cut_turns", *turns[:2]), ("expert_cut_turns", *turns[2:])):
                if num:
                    logs[name] = cut / num
            if num_actions:
                logs["action_loss"], logs["expert_entropy"] = action / num_actions, entropy / num_actions
            if num_observations:
                logs["observation_loss"] = observation / num_observations
            self._sums = torch.zeros_like(self._sums)
        super().log(logs, start_time)


def _rows(rows: Sequence[Row]) -> dict[str, Any]:
    """Return rows as the batch of a data loader."""
    return {"rows": [dict(row) for row in rows]}
