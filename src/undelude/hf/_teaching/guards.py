"""Conditions under which counterfactual teaching would be silently wrong; each is refused with what to do."""

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from undelude.hf._marks.chat import check_end_of_turn
from undelude.hf._marks.do_embedding import embedding_of, offset_of
from undelude.hf._marks.do_tokens import DoTokens
from undelude.hf._teaching.conversations import Conversation
from undelude.hf._teaching.experts import PRIVILEGED, Expert
from undelude.hf._teaching.sequences import Scored

# Standard errors by which the first turns may fit their own theta better than another's.
MAX_ERRORS = 6.0
# Conversations before the first turns are judged.
MIN_JUDGED = 32
# Share of the expert's first turns that are empty or cut, from which on it is mentioned.
MAX_SILENT = 0.9


def check_columns(columns: Sequence[str], *, needs_context: bool, stored: bool, public: Sequence[str] = ()) -> None:
    """Raise if the data set lacks a column that the trainer reads, or that is declared public."""
    if unknown := [name for name in public if name not in columns]:
        raise ValueError(
            f"public_columns names {', '.join(map(repr, unknown))}, and the columns of the data set are "
            f"{', '.join(columns) or 'none'}."
        )
    needed = [("messages" if stored else "prompt"), *([PRIVILEGED] if needs_context else [])]
    if missing := [name for name in needed if name not in columns]:
        if missing == ["prompt"] and "messages" in columns:
            raise ValueError(
                'The data set has transcripts (messages) and no prompt to play from: pass rollouts="dataset".'
            )
        way_out = ""
        if missing == ["messages"] and "prompt" in columns:
            way_out = 'For transcripts that an expert writes from the prompts, pass rollouts="expert" and expert=. '
        raise ValueError(
            f"The data set has no column {' and no column '.join(map(repr, missing))}; its columns are "
            f"{', '.join(columns) or 'none'}. {way_out}A row has prompt (a text or messages) and privileged_context "
            "(what the expert knows), and messages if it is a stored transcript."
        )


def check_executor(rollouts: Any, expert: Any) -> None:
    """Raise if the party that executes is the expert, which knows theta."""
    own = {id(expert), id(getattr(expert, "utterances", None)), id(getattr(expert, "next_token", None))}
    if (rollouts is not None and id(rollouts) in own - {id(None)}) or isinstance(rollouts, Expert):
        raise ValueError(
            "rollouts is the expert, which knows theta: its turns are evidence about theta, and marked do they would "
            'teach the delusion. Let the model execute (rollouts="policy"), or a function that is not shown the '
            'privileged context; or store the expert\'s turns as messages with "author": "expert".'
        )


def check_expert(expert: Any) -> None:
    """Raise if the expert cannot be asked."""
    if expert is None or isinstance(expert, Expert):
        return
    way_out = "CallableExpert(expert, tokenizer)" if callable(expert) else "PromptedExpert or CallableExpert"
    if isinstance(expert, torch.nn.Module):
        way_out = "PromptedExpert(expert, tokenizer)"
    raise TypeError(
        f"expert cannot be asked what it would say, because it is a {type(expert).__name__}: pass {way_out}."
    )


def check_leak(conversations: Sequence[Conversation], how: str) -> None:
    """Raise, or warn, if the privileged context is word for word in what the model reads."""
    for c in conversations:
        context = c.row.get(PRIVILEGED)
        if not isinstance(context, str) or not context.strip():
            continue
        word_for_word = re.compile(rf"(?<!\w){re.escape(context.strip())}(?!\w)")
        # Replies may tell theta; what the model is told at the start may not.
        first = c.turns[c.num_given].message if len(c.turns) > c.num_given else len(c.messages)
        for i, message in enumerate(c.messages):
            content = message.get("content")
            if not isinstance(content, str) or not word_for_word.search(content):
                continue
            if message["role"] == "assistant" and message.get("author") == "self" and c.is_stored:
                raise ValueError(
                    f"A stored turn of the assistant contains the privileged context, {context.strip()!r:.60}, and is "
                    'marked as the model\'s own ("author": "self"): its author knew theta. Mark it "author": '
                    '"expert".'
                )
            if i < first and message["role"] != "assistant":
                text = (
                    f"The privileged context, {context.strip()!r:.60}, is word for word in message {i} of the "
                    "conversation, which the model reads: the expert knows no more than the model."
                )
                if how == "error":
                    raise ValueError(text + ' Take it out, or set privileged_leak="warn" if that is meant.')
                warnings.warn(text, UserWarning, stacklevel=2)
                return


def check_vocabulary(expert: Any, tokenizer: Any, width: int | None) -> None:
    """Raise if the expert's tokens are not the student's.

    Args:
        expert: of any kind; one that is a model has a vocabulary.
        tokenizer: of the student.
        width: of the student's head.
    """
    other = getattr(expert, "tokenizer", None)
    if other is not None and other is not tokenizer and other.get_vocab() != tokenizer.get_vocab():
        raise ValueError(
            f"The expert's tokenizer has {len(other)} tokens, and the student's has {len(tokenizer)}; their "
            "vocabularies differ, so that the expert's probabilities belong to other tokens. Use a teacher of the same "
            "family, or a CallableExpert that answers in text."
        )
    teacher = getattr(expert, "teacher", None)
    rows = getattr(getattr(teacher, "config", None), "vocab_size", None)
    if rows is not None and width is not None and rows != width:
        raise ValueError(
            f"The teacher predicts {rows} tokens, and the student {width}: resize one of them to the other's number, "
            "model.resize_token_embeddings(n), before DoTokens.wrap."
        )


def check_end(tokenizer: Any, V: int | None, chat_template_kwargs: Mapping[str, Any] | None = None) -> None:
    """Raise if a turn has no end token, or one that has no do-id."""
    end = getattr(tokenizer, "eos_token_id", None)
    if end is None:
        raise ValueError("The tokenizer has no end token (eos_token): a turn would never end.")
    if V is not None and not 0 <= end < V:
        raise ValueError(
            f"The end token has the id {end}, and the model's vocabulary has {V}: do(end) does not exist. "
            "Resize the embeddings to the tokenizer before DoTokens.wrap."
        )
    check_end_of_turn(tokenizer, chat_template_kwargs)


def check_marks_train(model: torch.nn.Module) -> None:
    """Raise if the offset of marked words is frozen, as PEFT leaves it unless it is told otherwise."""
    marks = DoTokens.of(model)
    assert marks is not None
    if not any(p.requires_grad for p in offset_of(embedding_of(marks.model)).parameters()):
        raise ValueError(
            "The marks are frozen, so that do(x) would stay x: LoraConfig(modules_to_save=['do_offset']), or pass "
            "peft_config= to the trainer, or DoTokens.wrap(peft_model). With the input embedding among "
            "modules_to_save, leave 'do_offset' out: PEFT's copy of the embedding has its own."
        )


def check_ignored(args: Any, given: Mapping[str, Any]) -> None:
    """Raise if something is set of `transformers.Trainer` that this trainer would not honour."""
    for name in ("compute_metrics", "compute_loss_func"):
        if given.get(name) is not None:
            raise ValueError(f"{name} would be ignored: the trainer has its own loss, and logs it. Leave it out.")
    if args.label_smoothing_factor:
        raise ValueError(
            f"label_smoothing_factor={args.label_smoothing_factor} would be ignored: the targets are the expert's "
            "distributions. Leave it at 0."
        )
    if getattr(args, "train_sampling_strategy", "random") != "random":
        raise ValueError(
            f'train_sampling_strategy="{args.train_sampling_strategy}" would be ignored: the order of the rows depends '
            'on the seed alone. Leave it at "random".'
        )


class Blindness:
    """A test that the first turns do not depend on theta, which a theta-blind behaviour passes.

    Among conversations with one prompt, the first own turn must fit its own row's theta no better than another row's:
    `E[log Q(a | theta) - log Q(a | theta')] = 0`. The expert's own turns do not pass.
    """

    def __init__(self, expert: Expert):
        self.expert = expert
        self.scores: list[float] = []
        self.is_over = False

    def update(self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator]) -> None:
        """Score the first turns of a batch.

        Raises:
            ValueError: they depend on theta.
        """
        by_prompt: dict[tuple[int, ...], list[int]] = {}
        for i, c in enumerate(conversations):
            if len(c.turns) > c.num_given and c.turns[c.num_given].author == "self" and PRIVILEGED in c.row:
                by_prompt.setdefault(tuple(c.ids[: c.turns[c.num_given].start]), []).append(i)
        for alike in by_prompt.values():
            pairs = list(zip(alike, alike[1:] + alike[:1], strict=True)) if len(alike) > 1 else []
            turns = [conversations[i].turns[conversations[i].num_given] for i, _ in pairs]
            words = [conversations[i].ids[t.start : t.end] for (i, _), t in zip(pairs, turns, strict=True)]
            fits = []
            for chosen in (0, 1):
                queries = [
                    conversations[pair[chosen]].query(turn, rngs[pair[chosen]])
                    for pair, turn in zip(pairs, turns, strict=True)
                ]
                try:
                    answers = self.expert.score(queries, words)
                except ValueError:  # An expert that answers in text alone.
                    self.is_over = True
                    return
                fits.append([_log_prob(q, ids) for q, ids in zip(answers, words, strict=True)])
            self.scores += [own - other for own, other in zip(*fits, strict=True)]
        if len(self.scores) >= MIN_JUDGED:
            self.is_over = len(self.scores) >= 4 * MIN_JUDGED
            scores = np.asarray(self.scores)
            if scores.mean() > MAX_ERRORS * scores.std(ddof=1) / len(scores) ** 0.5:
                raise ValueError(
                    f"The first turns of {len(scores)} conversations with one prompt fit their own privileged context "
                    f"better than another's, by {scores.mean():.2f} nats on average: the party that executes them "
                    'knows theta. Such turns are evidence, and marked do they teach the delusion: mark them "author": '
                    '"expert", or let something execute that is not shown the privileged context (also by no column '
                    "of public_columns)."
                )


class Silence:
    """Whether nearly all of the expert's first turns are empty or cut, which the student would learn.

    Attributes:
        is_over: whether it was judged.
    """

    def __init__(self) -> None:
        self.num, self.empty, self.cut, self.is_over = 0, 0, 0, False

    def update(self, conversations: Sequence[Conversation], scored: Sequence[Scored]) -> None:
        """Count the expert's turns in a batch; warn once if nearly all are empty or cut."""
        turns: list[tuple[bool, bool]] = []
        for c, s in zip(conversations, scored, strict=True):
            played = [] if c.is_stored else [x for x in c.turns[c.num_given :] if x.author == "expert"]
            turns += [(x.end - x.start == 1, x.is_cut) for x in played]
            # Of its utterances, the last ones that were said, without their last word.
            cuts = [is_cut for _, is_cut in s.said[len(s.said) - len(s.branches) :]]
            turns += [(not ids, is_cut) for (_, ids), is_cut in zip(s.branches, cuts, strict=True)]
        self.num += len(turns)
        self.cut += sum(is_cut for _, is_cut in turns)
        self.empty += sum(is_empty and not is_cut for is_empty, is_cut in turns)
        if self.num < MIN_JUDGED:
            return
        self.is_over = True
        if self.empty + self.cut >= MAX_SILENT * self.num:
            warnings.warn(
                f"Of the expert's first {self.num} turns, {self.empty} are empty and {self.cut} are cut: the student "
                "learns to say nothing, or not to end. Look at what the expert answers; allow more max_new_tokens if "
                "its turns are cut.",
                UserWarning,
                stacklevel=2,
            )


def _log_prob(targets: Any, ids: Sequence[int]) -> float:
    """Return the log-probability of a turn, at least -10 a token, because an expert may exclude words."""
    total = 0.0
    for i, x in enumerate(ids):
        log_p = targets.log_probs[i]
        at = torch.tensor([x]) if targets.ids is None else (targets.ids[i] == x).nonzero()[:, 0]
        total += max(-10.0, float(log_p[at].logsumexp(0))) if len(at) else -10.0
    return total
