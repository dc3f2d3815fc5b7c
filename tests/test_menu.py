"""The menu: replies and experts as stated, exact agents against enumeration, and independent simulations."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from undelude.tasks.menu import AGAIN, END, GOODBYE, NO, SILENCE, YES

KEY = jax.random.key(0)
DISHES = ("tacos", "fish soup", "fish tacos")
ACCURACY, REPLY, NO_ANSWER = 0.8, (0.7, 0.1), 0.3
K = len(DISHES)


def menu(granularity, num_turns=3):
    return ud.tasks.menu(DISHES, ACCURACY, REPLY, NO_ANSWER, num_turns, granularity=granularity)


def says(theta):
    """The probability that the expert names each dish."""
    return np.where(np.arange(K) == theta, ACCURACY, (1 - ACCURACY) / (K - 1))


def replies(named, theta):
    """The probabilities of NO, YES and AGAIN."""
    yes = REPLY[0] if named == theta else REPLY[1]
    return np.array([(1 - NO_ANSWER) * (1 - yes), (1 - NO_ANSWER) * yes, NO_ANSWER])


def encode(process, text, length):
    """Return the words of an utterance as symbols, filled up with END."""
    words = process.task.grammar.words
    spelled = [words.index(word) for word in text.split()]
    padding = [words.index(END)] if len(spelled) < length else []
    return np.array(spelled + padding * (length - len(spelled)), np.int32)


@pytest.mark.parametrize("mark", ["do", "see"])
def test_turns_match_enumeration(mark):
    """After any two turns, `P(A_3 | ...)` is Bayes' rule over the joint table of the issue's statement."""
    process = menu("turn")
    agent = ud.ExactAgent(process, mark)
    blocks = jnp.stack([jnp.asarray(encode(process, dish, 2)) for dish in DISHES])

    @jax.jit
    def after(named, heard):
        m = agent.init(num_rounds=3)
        for d, o in zip(named, heard, strict=True):
            m = agent.g_O(o, agent.g_A(blocks[d], m, intervened=mark == "do"))
        return jax.vmap(agent.f_A(m).log_prob)(blocks)

    for named, heard in itertools.product(itertools.product(range(K), repeat=2), itertools.product(range(3), repeat=2)):
        weights = np.ones(K) / K
        for d, o in zip(named, heard, strict=True):
            weights *= [replies(d, theta)[o] for theta in range(K)]
            if mark == "see":
                weights *= [says(theta)[d] for theta in range(K)]
        expected = (weights / weights.sum()) @ np.stack([says(theta) for theta in range(K)])
        got = np.exp(after(jnp.array(named), jnp.array(heard)))
        np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("mark", ["do", "see"])
def test_words_match_enumeration(mark):
    """By token, the next word is predicted by Bayes' rule over theta, within an utterance too."""
    process = menu("token", num_turns=2)
    agent, words = ud.ExactAgent(process, mark), process.task.grammar.words
    f_A, f_O, g_O = (jax.jit(lambda *x, f=f: f(*x)) for f in (agent.f_A, agent.f_O, agent.g_O))
    g_A = jax.jit(lambda a, m: agent.g_A(a, m, intervened=mark == "do"))
    spelled = [[*dish.split(), END] for dish in DISHES]

    def next_word(theta, said):
        """Go through all dishes that begin with what was said."""
        probs = np.zeros(len(words))
        for d, utterance in enumerate(spelled):
            if utterance[: len(said)] == said:
                probs[words.index(utterance[len(said)])] += says(theta)[d]
        return probs / probs.sum()

    for first, o, second in itertools.product(range(K), (NO, YES, AGAIN), range(K)):
        m, weights = agent.init(num_rounds=process.num_rounds), np.ones(K) / K
        for turn, d in enumerate((first, second)):
            said = []
            for word in spelled[d]:
                expected = np.stack([next_word(theta, said) for theta in range(K)])
                np.testing.assert_allclose(f_A(m).probs, weights / weights.sum() @ expected, atol=1e-6)
                m = g_A(jnp.asarray(words.index(word)), m)
                if mark == "see":
                    weights = weights * expected[:, words.index(word)]
                said.append(word)
                symbol = SILENCE if word != END else (o if turn == 0 else GOODBYE + o)
                reply = np.stack([replies(d, theta)[o] if word == END else 1.0 for theta in range(K)])
                P_O = weights / weights.sum() @ reply
                np.testing.assert_allclose(f_O(m).probs[symbol], P_O, atol=1e-6)
                m, weights = g_O(jnp.asarray(symbol), m), weights * reply


def simulate(mark, *, num_turns, num_episodes=20_000):
    """Return what an exact agent does on the default menu: hits `[B, T]`, dishes, replies, nats to the do answer."""
    rng, K, B = np.random.default_rng(0), 5, num_episodes
    expert = np.where(np.eye(K) > 0, 0.9, 0.025)
    theta, log_see, log_do = rng.integers(K, size=B), np.zeros((B, K)), np.zeros((B, K))
    rows = []
    for _ in range(num_turns):
        do, see = (np.exp(x - x.max(1, keepdims=True)) for x in (log_do, log_see))
        P_do, P_see = (x / x.sum(1, keepdims=True) @ expert for x in (do, see))
        acting = P_do if mark == "do" else P_see
        a = (acting.cumsum(1) > rng.random((B, 1))).argmax(1)
        yes = np.where(np.arange(K) == a[:, None], 0.75, 0.25)
        answers, is_yes = rng.random(B) > 0.2, rng.random(B) < yes[np.arange(B), theta]
        evidence = np.where(answers[:, None], np.log(np.where(is_yes[:, None], yes, 1 - yes)), 0.0)
        log_do += evidence
        log_see += evidence + np.log(expert[:, a].T)
        reply = np.where(answers, is_yes.astype(int), AGAIN)
        rows.append((a == theta, a, reply, (P_do * np.log(P_do / acting)).sum(1)))
    return [np.stack(x, 1) for x in zip(*rows, strict=True)]


@pytest.mark.parametrize("mark", ["do", pytest.param("see", marks=pytest.mark.slow)])
def test_exact_agents_match_a_simulation(mark):
    """Share of right dishes in the last five turns of twenty, and how often an unanswered guess is repeated."""
    B = 4096
    process = ud.tasks.menu()
    episodes = ud.rollout(process, ud.ExactAgent(process, mark), key=KEY, num_episodes=B)
    named = np.asarray(jax.vmap(jax.vmap(process.task.named))(episodes.actions))
    hits, a, reply, _ = simulate(mark, num_turns=20)
    expected, got = hits[:, -5:].mean(1), np.asarray(episodes.reward)[:, -5:].mean(1)
    assert abs(expected.mean() - got.mean()) < 4 * np.hypot(expected.std() / 20_000**0.5, got.std() / B**0.5)
    unanswered = reply[:, 0] == AGAIN
    expected = (a[:, 1] == a[:, 0])[unanswered].mean()
    got = (named[:, 1] == named[:, 0])[np.asarray(episodes.observations)[:, 0] == AGAIN].mean()
    assert abs(expected - got) < 4 * 0.4 * np.hypot(1 / unanswered.sum() ** 0.5, 1 / (0.2 * B) ** 0.5)


@pytest.mark.slow
def test_certificate_of_the_deluded_agent():
    """Nats per turn from the interventional answer, in six turns; a simulation in NumPy gives the same."""
    expected = simulate("see", num_turns=6)[-1].mean(1)
    report = ud.certify(
        ud.tasks.menu(num_turns=6), ud.ExactAgent(ud.tasks.menu(num_turns=6), "see"), key=KEY, baselines=False
    )
    error = 4 * np.hypot(expected.std() / 20_000**0.5, report.action_kl_do_se)
    assert abs(report.action_kl_do - expected.mean()) < error


@pytest.mark.slow
def test_a_turn_and_its_words_are_different_actions():
    """An agent that believes in two of sixteen two-word dishes names one of them: .907 by turn, .581 by word.

    By turn: .9 + .1 / 15. By word, the second is not chosen with the first in mind: 2 * .4733 * (.978 + .25) / 2.
    """
    pairs = [f"{x} {y}" for x in ("red", "green", "hot", "cold") for y in ("fish", "soup", "rice", "beans")]
    by_turn, by_word = (ud.tasks.menu(pairs, granularity=x, num_turns=1) for x in ("turn", "token"))
    belief = jnp.log(jnp.zeros(16).at[jnp.array([0, 5])].set(0.5))

    def believing(process):
        agent = ud.ExactAgent(process)
        m = agent.init(num_rounds=process.num_rounds)
        return agent, jax.tree.map(jnp.asarray, type(m)(belief, m.w, m.e, m.impossible))

    agent, m = believing(by_turn)
    P_A = agent.f_A(m)
    both = [jnp.asarray(encode(by_turn, pairs[d], 2)) for d in (0, 5)]
    assert sum(float(jnp.exp(P_A.log_prob(x))) for x in both) == pytest.approx(0.9 + 0.1 / 15, abs=1e-5)
    agent, m = believing(by_word)
    total = 0.0
    for x in both:
        later = agent.g_O(jnp.asarray(SILENCE), agent.g_A(x[0], m, intervened=True))
        total += float(agent.f_A(m).probs[x[0]] * agent.f_A(later).probs[x[1]])
    first = 0.5 * (0.9 + 3 * 0.1 / 15) + 0.5 * 4 * 0.1 / 15
    assert total == pytest.approx(2 * first * 0.5 * (0.9 / 0.92 + 0.25), abs=1e-5)


@pytest.mark.parametrize("granularity", ["turn", pytest.param("token", marks=pytest.mark.slow)])
def test_menu_is_sound(granularity, monkeypatch):
    monkeypatch.setattr("undelude._certificate.check_task._certify_deluded", lambda *_: None)
    assert "no problems found" in str(ud.check_task(menu(granularity)))


def test_words_are_said_in_words():
    """The customer's replies, with goodbye after the last turn."""
    said = [menu("token").task.say(np.int32(o)) for o in range(7)]
    assert said[:4] == ["No.", "Yes.", "What's on the menu?", ""]
    assert said[4:] == [f"{x} Goodbye." for x in said[:3]]
    assert menu("token").task.say_action(np.int32(2)) == "soup"
    task = menu("turn").task
    assert [task.say_theta(np.int32(k)) for k in range(K)] == [*DISHES]
    utterances = [task.say_action(encode(menu("turn"), text, 2)) for text in (*DISHES, "soup tacos", "")]
    assert utterances == ["Tacos.", "Fish soup.", "Fish tacos.", "Soup tacos.", "."]


def test_nonsense_names_no_dish():
    """Words with which no dish begins earn nothing, and the customer takes them for another dish."""
    process = menu("turn")
    task, a = process.task, jnp.asarray(encode(process, "soup fish", 2))
    for theta in map(jnp.asarray, range(K)):
        w = task.g_A(theta, a, task.init(theta))
        assert task.reward(theta, w, a, jnp.asarray(NO)) == 0
        np.testing.assert_allclose(task.Q_O(theta, w).probs, replies(None, theta), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dishes": ("tacos",)}, "two or more different names"),
        ({"dishes": ("tacos", " tacos")}, "two or more different names"),
        ({"dishes": ("tacos", "")}, "two or more different names"),
        ({"dishes": ("tacos", "soup .")}, "which ends an utterance"),
        ({"dishes": {"tacos", "soup"}}, "not a set"),
        ({"granularity": "word"}, 'granularity must be "turn" or "token"'),
        ({"reply": 0.5}, "reply must be two probabilities"),
        ({"reply": (0.5, 1.5)}, r"menu: reply\[1\]"),
        ({"no_answer": -0.1}, "menu: no_answer"),
    ],
)
@pytest.mark.usefixtures("no_type_checks")
def test_bad_input_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        ud.tasks.menu(**options)
