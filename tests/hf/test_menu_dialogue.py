"""The menu in words agrees with the process: the same replies, the same beliefs, and texts for its symbols."""

import jax
import numpy as np
import pytest

import undelude as ud
from undelude.hf import MenuDialogue
from undelude.hf._menu.reading import read_answer
from undelude.tasks.menu import AGAIN, NO, REPLIES, YES

ONE_WORD = ("tacos", "soup", "pizza")
SEVERAL_WORDS = ("tacos", "fish soup", "cheeseburgers", "fish tacos", "pea soup")


@pytest.fixture(scope="module", params=[("turn", ONE_WORD), ("turn", SEVERAL_WORDS), ("token", SEVERAL_WORDS)])
def dialogue(request: pytest.FixtureRequest) -> MenuDialogue:
    granularity, dishes = request.param
    return MenuDialogue(dishes=dishes, num_turns=3, granularity=granularity)


def converse(dialogue: MenuDialogue, row: dict, author: str = "self") -> list[dict]:
    """Return a conversation in which the assistant names dishes at random."""
    rng, messages = np.random.default_rng(row["seed"]), dialogue.opening(row["prompt"])
    reply: str | None = ""
    while reply is not None:
        utterance = dialogue.utterances[rng.integers(len(dialogue.dishes))]
        messages.append({"role": "assistant", "content": utterance, "author": author})
        reply = dialogue(messages, row)
        messages += [] if reply is None else [{"role": "user", "content": reply, "author": "other"}]
    return messages


@pytest.mark.parametrize(("author", "mark"), [("self", "do"), ("expert", "see")])
def test_beliefs_are_those_of_the_process(dialogue: MenuDialogue, author: str, mark: str) -> None:
    """Bayes' rule on the texts gives the posterior of the encoded history: own words as do, an expert's as see."""
    for row in dialogue.rows(3, seed=1):
        messages = converse(dialogue, row, author)
        actions, observations = dialogue.encode(messages)
        history = ud.Episodes.of(dialogue.process, actions=actions, observations=observations)
        log_posterior = ud.posterior(dialogue.process, history, own_actions=mark)[-1]
        np.testing.assert_allclose(dialogue.belief(messages), np.exp(log_posterior), rtol=1e-4)


def test_decode_inverts_encode(dialogue: MenuDialogue) -> None:
    messages = converse(dialogue, dialogue.rows(1, seed=2)[0])
    # The process has a reply to the last turn too.
    assert dialogue.decode(*dialogue.encode(messages))[:-1] == messages


def test_episodes_of_the_process_decode(dialogue: MenuDialogue) -> None:
    """Symbols that the process's own expert and customer produced become texts and the same symbols again."""
    episodes = ud.rollout(dialogue.process, None, executor="expert", key=jax.random.key(0), num_episodes=4)
    for i in range(4):
        exists = np.asarray(episodes.mask[i])
        actions, observations = episodes.actions[i][exists], episodes.observations[i][exists]
        encoded = dialogue.encode(dialogue.decode(actions, observations))
        for ours, theirs in zip(encoded, (actions, observations), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_replies_have_the_process_probabilities() -> None:
    """Over many rows, within four standard errors; after the dish on the menu and after another."""
    dialogue, num = MenuDialogue(dishes=ONE_WORD, reply=(0.8, 0.3), no_answer=0.1), 4000
    rows = dialogue.rows(num, seed=3)
    for right in (True, False):
        dishes = [(row["theta"] + (not right)) % len(ONE_WORD) for row in rows]
        replies = [
            dialogue([{"role": "assistant", "content": dialogue.utterances[dish]}], row)
            for dish, row in zip(dishes, rows, strict=True)
        ]
        yes = 0.8 if right else 0.3
        for reply, p in ((YES, 0.9 * yes), (NO, 0.9 * (1 - yes)), (AGAIN, 0.1)):
            assert replies.count(REPLIES[reply]) / num == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / num))


def test_a_conversation_gets_the_same_replies_again() -> None:
    """Replies depend on the row and the turn alone, not on a global generator or on the conversations before."""
    dialogue = MenuDialogue(num_turns=6)
    row, other = dialogue.rows(2, seed=4)
    before = converse(dialogue, row)
    converse(dialogue, other)
    assert converse(MenuDialogue(num_turns=6), row) == before
    assert dialogue.rows(2, seed=4) == [row, other]


def test_thetas_follow_the_prior_and_the_context_tells_them() -> None:
    dialogue = MenuDialogue()
    rows = dialogue.rows(1000, seed=5)
    counts = np.bincount([row["theta"] for row in rows], minlength=5) / 1000
    np.testing.assert_allclose(counts, 0.2, atol=4 * np.sqrt(0.16 / 1000))
    assert all(row["privileged_context"] == f"On the menu: {dialogue.dishes[row['theta']]}." for row in rows)


def test_the_expert_names_theta_with_its_accuracy(dialogue: MenuDialogue) -> None:
    row = dialogue.rows(1, seed=6)[0]
    said = dialogue.expert()([], row)
    wrong = 0.1 / (len(dialogue.dishes) - 1)
    assert said == pytest.approx({dish: 0.9 if dish == row["dish"] else wrong for dish in dialogue.utterances})


@pytest.mark.parametrize(
    ("text", "dish"),
    [
        ("tacos", "tacos"),
        ("Tacos are on the menu.", "tacos"),
        ("A taco!", "tacos"),
        ("Fish tacos are on the menu.", "fish tacos"),
        ("<think>Soup? Or tacos?</think> Pea soup.", "pea soup"),
        ("Fish.", None),
        ("Tacos or pea soup.", None),
        ("", None),
        ("It is not tacos.", None),
        ("Tacos aren't on the menu.", None),
        ("It is not tacos, it is pea soup.", "pea soup"),
        ("No, tacos.", "tacos"),
        ("Not sure, but tacos?", "tacos"),
    ],
)
def test_read_is_tolerant_and_not_credulous(text: str, dish: str | None) -> None:
    dialogue = MenuDialogue(dishes=SEVERAL_WORDS)
    assert dialogue.read(text) == (None if dish is None else SEVERAL_WORDS.index(dish))


def test_answers_of_one_letter_and_denials() -> None:
    """ "As" is no plural of "A", and "No" is an answer where it is one."""
    assert read_answer("As far as I know", ("A", "B")) is None
    assert read_answer("B", ("A", "B")) == 1
    assert read_answer("No, it does not.", ("Yes.", "No.")) == 1
    assert read_answer("It is not hot.", ("hot", "not hot")) == 1


def test_dishes_that_read_alike_are_refused() -> None:
    with pytest.raises(ValueError, match="'taco' and 'tacos' cannot be told apart"):
        MenuDialogue(dishes=("taco", "tacos"))


def test_another_process_is_refused() -> None:
    with pytest.raises(TypeError, match=r"from ud\.tasks\.menu"):
        MenuDialogue(ud.tasks.bandit())
    with pytest.raises(TypeError, match="not both"):
        MenuDialogue(ud.tasks.menu(), num_turns=3)
