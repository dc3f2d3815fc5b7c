"""Counterfactuals, soft interventions and information, against sums over all noise (Pearl 2009, chapter 7)."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud

NUM_MODELS = 60


def random_model(rng, num_variables=4):
    """Return equations with random functions, and the functions, for the oracle."""
    names = [f"V{i}" for i in range(num_variables)]
    equations, parts = [], {}
    for i, name in enumerate(names):
        size, num_noise = int(rng.integers(2, 4)), int(rng.integers(1, 4))
        parents = tuple(p for p in names[:i] if rng.random() < 0.6)
        noise = rng.dirichlet(np.ones(num_noise))
        sizes = [parts[p][0] for p in parents]
        table = rng.integers(size, size=(*sizes, num_noise))
        values = tuple(f"{name}={k}" for k in range(size))
        parts[name] = (size, parents, noise, table)

        def function(*causes, table=table, values=values):
            places = [int(str(x).rpartition("=")[2]) for x in causes]
            return values[table[tuple(places)]]

        equations.append(ud.Equation(name, values, function, parents, noise=list(noise)))
    order = rng.permutation(num_variables)
    return ud.CausalModel([equations[i] for i in order]), parts


def solve(parts, noise, done):
    """Return the values of all variables, by place, under the given noise."""
    found = {}
    for (name, (_, parents, _, table)), u in zip(parts.items(), noise, strict=True):
        found[name] = done[name] if name in done else int(table[(*(found[p] for p in parents), u)])
    return found


def oracle(parts, asked, do, given, given_do):
    """Sum over all values of all noise: the weight of those that agree with what was given."""
    answer = np.zeros([parts[name][0] for name in asked])
    for noise in itertools.product(*(range(len(p[2])) for p in parts.values())):
        weight = math.prod(p[2][u] for p, u in zip(parts.values(), noise, strict=True))
        actual, there = solve(parts, noise, given_do), solve(parts, noise, do)
        if all(actual[name] == x for name, x in given.items()):
            answer[tuple(there[name] for name in asked)] += weight
    return answer


def named(values):
    return {name: f"{name}={x}" for name, x in values.items()}


def some(rng, parts, names, most):
    chosen = rng.permutation(names)[: rng.integers(most + 1)]
    return {str(name): int(rng.integers(parts[name][0])) for name in chosen}


def test_counterfactuals_are_sums_over_all_noise():
    rng = np.random.default_rng(0)
    impossible = 0
    for _ in range(NUM_MODELS):
        model, parts = random_model(rng)
        names = list(parts)
        do, given_do = some(rng, parts, names, 2), some(rng, parts, names, 1)
        given = some(rng, parts, [x for x in names if x not in given_do], 2)
        asked = [str(x) for x in rng.permutation([x for x in names if x not in do])[: rng.integers(1, 3)]]
        truth = oracle(parts, asked, do, given, given_do)
        ask = {"do": named(do), "given": named(given), "given_do": named(given_do)}
        if truth.sum() == 0:
            impossible += 1
            with pytest.raises(ValueError, match="impossible evidence"):
                model.counterfactual(asked, **ask)
            continue
        np.testing.assert_allclose(model.counterfactual(asked, **ask), truth / truth.sum(), atol=1e-6)
    assert impossible < NUM_MODELS / 2


def test_necessity_and_sufficiency_are_sums_over_all_noise():
    rng = np.random.default_rng(1)
    for _ in range(NUM_MODELS // 2):
        model, parts = random_model(rng, 3)
        a, o = "V0", "V2"
        x, other = (int(i) for i in rng.permutation(parts[a][0])[:2])
        y = int(rng.integers(parts[o][0]))
        weights = np.zeros(5)
        for noise in itertools.product(*(range(len(p[2])) for p in parts.values())):
            weight = math.prod(p[2][u] for p, u in zip(parts.values(), noise, strict=True))
            actual = solve(parts, noise, {})
            under, instead = (solve(parts, noise, {a: value})[o] == y for value in (x, other))
            seen, failed = (actual[a] == x and actual[o] == y), (actual[a] == other and actual[o] != y)
            weights += weight * np.array([seen, seen and not instead, failed, failed and under, under and not instead])
        with np.errstate(invalid="ignore"):
            truth = [weights[1] / weights[0], weights[3] / weights[2], weights[4]]
        found = model.causation({a: f"{a}={x}"}, {o: f"{o}={y}"}, instead=f"{a}={other}")
        np.testing.assert_allclose(found, truth, atol=1e-6)


def test_frog():
    """Had it opened the other box: the prize, if it saw no prize, and if it acted itself just the same."""
    frog = ud.tasks.prize_or_frog().causal_model(num_rounds=1)
    assert frog.counterfactual("O_1", do={"A_1": 1}, given={"A_1": 0, "O_1": 1}).tolist() == [1, 0]
    assert frog.counterfactual("O_1", do={"A_1": 1}, given={"O_1": 0}, given_do={"A_1": 0}).tolist() == [0, 1]
    # Without an observation an own action says nothing about theta, and the expert's action all.
    assert frog.counterfactual("O_1", do={"A_1": 1}, given_do={"A_1": 0}).tolist() == [0.5, 0.5]
    assert frog.counterfactual("O_1", do={"A_1": 1}, given={"A_1": 0}).tolist() == [1, 0]


def test_same_intervention_gives_what_was_seen():
    """Composition: under the intervention that was carried out, the observation is the one that was seen."""
    model, parts = random_model(np.random.default_rng(5))
    seen = named({"V3": int(np.argmax(model.query("V3", do={"V1": "V1=0"})))})
    answer = model.counterfactual("V3", do={"V1": "V1=0"}, given=seen, given_do={"V1": "V1=0"})
    assert answer[model["V3"].values.index(seen["V3"])] == pytest.approx(1)
    assert parts["V3"][0] == len(answer)


def test_what_an_intervention_does_not_reach_is_as_it_was_seen():
    frog = ud.tasks.prize_or_frog().causal_model(num_rounds=1)
    joint = frog.counterfactual(("Theta", "O_1"), do={"A_1": 1}, given={"Theta": 1})
    np.testing.assert_allclose(joint, [[0, 0], [0, 1]])
    assert frog.counterfactual("A_1", do={"O_1": 1}, given={"A_1": 0}).tolist() == [1, 0]


def test_random_mechanism_is_refused_only_where_it_matters():
    bandit = ud.tasks.bandit().causal_model(num_rounds=1)
    with pytest.raises(ValueError, match=r"mechanism of O_1 is random.*ud\.Equation"):
        bandit.counterfactual("O_1", do={"A_1": 1}, given={"A_1": 0, "O_1": 1})
    # The observation under another pull, if only the expert's pull was seen: no noise is shared.
    answer = bandit.counterfactual("O_1", do={"A_1": 1}, given={"A_1": 0})
    truth = bandit.query("Theta", see={"A_1": 0}) @ bandit.table("O_1")[:, 1]
    np.testing.assert_allclose(answer, truth, atol=1e-6)
    with pytest.raises(ValueError, match="marginal knows no mechanism"):
        bandit.marginal(("A_1", "O_1")).counterfactual("O_1", do={"A_1": 1})


def test_rare_noise_is_noise():
    """The case that was seen is the rare one: what its noise does elsewhere is not known."""
    rare = [[1 - 5e-7, 5e-7], [5e-7, 1 - 5e-7]]
    model = ud.CausalModel([ud.Variable("A", (0, 1), table=[0.5, 0.5]), ud.Variable("O", (0, 1), ("A",), table=rare)])
    with pytest.raises(ValueError, match="mechanism of O is random"):
        model.counterfactual("O", do={"A": 1}, given={"A": 0, "O": 1})


def test_stochastic_interventions_are_mixtures_and_policies_replace_mechanisms():
    rng = np.random.default_rng(2)
    for _ in range(20):
        model, parts = random_model(rng)
        size = parts["V1"][0]
        p = rng.dirichlet(np.ones(size))
        soft = model.query("V3", do={"V1": {f"V1={k}": p[k] for k in range(size)}})
        hard = sum(p[k] * model.query("V3", do={"V1": f"V1={k}"}) for k in range(size))
        np.testing.assert_allclose(soft, hard, atol=1e-6)
        policy = ud.Variable("V1", model["V1"].values, ("V0",), table=rng.dirichlet(np.ones(size), size=parts["V0"][0]))
        see = model.most_probable("V0")
        row = policy.table[model["V0"].values.index(see["V0"])]
        joint = model.query(("V1", "V3"), see=see, do={"V1": policy})
        each = [row[k] * model.query("V3", see=see, do={"V1": f"V1={k}"}) for k in range(size)]
        np.testing.assert_allclose(joint, each, atol=1e-6)


def test_likelihood_evidence_weighs_the_joint():
    rng = np.random.default_rng(3)
    for _ in range(20):
        model, parts = random_model(rng)
        weight = rng.random(parts["V3"][0]) + 0.1
        evidence = {f"V3={k}": 7 * weight[k] for k in range(len(weight))}
        joint = np.asarray(model.query(("V0", "V3"), do={"V1": "V1=0"})) * weight
        answer = model.query("V0", see={"V3": evidence}, do={"V1": "V1=0"})
        np.testing.assert_allclose(answer, joint.sum(1) / joint.sum(), atol=1e-6)
        log_prob = model.log_prob(see={"V3": evidence}, do={"V1": "V1=0"})
        np.testing.assert_allclose(log_prob, np.log(7 * joint.sum()), atol=1e-5)


def test_information():
    rng = np.random.default_rng(4)
    for _ in range(10):
        model, _ = random_model(rng)
        joint = np.asarray(model.query(("V0", "V1", "V3")), float)
        pairs = [joint[:, :, k] for k in range(joint.shape[2])]
        truth = sum(
            p * math.log(p * pair.sum() / (pair.sum(1)[i] * pair.sum(0)[j]))
            for pair in pairs
            for (i, j), p in np.ndenumerate(pair)
            if p > 1e-12
        )
        np.testing.assert_allclose(model.mutual_information("V0", "V1", given="V3"), truth, atol=2e-6)
        P = np.asarray(model.query("V1"), float)
        effects = np.stack([model.query("V3", do={"V1": x}) for x in model["V1"].values]).astype(float)
        flow = sum(
            P[i] * e * math.log(e / (P @ effects)[j]) for (i, j), e in np.ndenumerate(effects) if P[i] * e > 1e-12
        )
        np.testing.assert_allclose(model.information_flow("V1", "V3"), flow, atol=2e-6)
    # A common cause alone: information, and no flow.
    frog = ud.tasks.prize_or_frog().causal_model(num_rounds=1)
    assert frog.mutual_information("Theta", "A_1") == pytest.approx(math.log(2))
    assert frog.information_flow("A_1", "Theta") == pytest.approx(0, abs=1e-7)


def test_expectation_and_most_probable():
    frog = ud.tasks.prize_or_frog().causal_model(num_rounds=1)
    names = ("Theta", "A_1", "O_1")
    joint = np.asarray(frog.query(names))
    assert frog.expectation(names, lambda theta, a, o: 4 * theta + 2 * a + o) == pytest.approx(
        sum(p * (4 * i + 2 * j + k) for (i, j, k), p in np.ndenumerate(joint))
    )
    assert frog.most_probable(("A_1", "O_1"), see={"Theta": 1}) == {"A_1": 1, "O_1": 1}
    with pytest.raises(ValueError, match="must return numbers"):
        frog.expectation("O_1", lambda o: "x")
    light = ud.CausalModel([ud.Variable("Light", ("1", "2"), table=[0.5, 0.5])])
    with pytest.raises(ValueError, match="the value '1' is a string"):
        light.expectation("Light")
    with pytest.raises(ValueError, match="two mechanisms for Light"):
        light.replace(light["Light"], light["Light"])
    with pytest.raises(ValueError, match="say which function of Theta, O_1"):
        frog.expectation(("Theta", "O_1"))


def test_gradients_pass_through():
    """The tables of a policy are leaves: the reward can be ascended in them."""
    frog = ud.tasks.prize_or_frog().causal_model(num_rounds=1)

    def reward(p):
        policy = ud.Variable("A_1", (0, 1), table=jax.numpy.stack([1 - p, p]))
        return frog.replace(policy).expectation("O_1", see={"Theta": 1})

    assert jax.grad(reward)(0.3) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda m: m.query("O_1", do={"A_1": {0: 1.0}}), "a number for each value; 1 is missing"),
        (lambda m: m.query("O_1", do={"A_1": {0: 0.5, 2: 0.5}}), "A_1 has no value 2"),
        (lambda m: m.query("O_1", do={"A_1": m["O_1"]}), "mechanism for A_1 is one of O_1"),
        (lambda m: m.query("O_1", see={"A_1": {0: -1, 1: 1}}), "finite numbers of 0 or more"),
        (lambda m: m.query("O_1", see={"O_1": {0: 1, 1: 1}}), "O_1 is both asked and seen"),
        (lambda m: m.query("Theta", see={"A_1": {0: 1, 1: 1}}, do={"A_1": 1}), "A_1 is both seen and done"),
        (
            lambda m: m.query("O_1", do={"A_1": ud.Variable("A_1", (0, 1), ("O_1",), table=[[1, 0], [0, 1]])}),
            "cycle: .*A_1",
        ),
        (lambda m: m.query("O_1", do={"A_1": ud.Variable("A_1", (1, 0), table=[1, 0])}), "their order, must be"),
        (lambda m: m.marginal(("A_1", "O_1")).query("O_1", do={"A_1": {0: 1, 1: 0}}), "marginal knows no mechanism"),
        (lambda m: m.counterfactual("O_1", do={"O_1": 1}), "O_1 is both asked and done"),
        (lambda m: m.counterfactual("O_2", do={"A_1": 1}), "'O_2' is not in the graph"),
        (lambda m: m.counterfactual(("O_1", "O_1"), do={"A_1": 1}), "a name is asked twice"),
        (lambda m: m.counterfactual("O_1", do={"A_1": 7}), "A_1 has no value 7"),
        (lambda m: m.counterfactual("O_1", do={"A_1": 1}, given_do={"A_1": m["A_1"]}), r"ask model\.replace\(policy\)"),
        (lambda m: m.causation({"A_1": 1}, {"O_1": 1}, given={"A_1": 0}), "A_1 is both the cause and given"),
        (lambda m: m.causation({"A_1": 9}, {"O_1": 1}), "A_1 has no value 9"),
        (lambda m: m.query("O_1", see={"A_1": {0: 1, 1: 1e-50}}), "differ by more than a factor of 1e38"),
        (lambda m: ud.CausalModel([ud.Equation("X", {"a", "b"}, lambda: "a")]), "a set"),
        (lambda m: m.causation({"A_1": 1, "O_1": 1}, {"O_1": 1}), "cause must be a dict of one name"),
        (lambda m: ud.tasks.bandit().causal_model(num_rounds=1).causation({"A_1": 1}, {"O_1": 1}), "which one stands"),
        (lambda m: ud.CausalModel([m["O_1"], m["A_1"], m["Theta"], 3]), "takes ud.Variable objects, not 3"),
        (
            lambda m: ud.CausalModel([ud.Equation("X", (0, 1), lambda: 2)]),
            r"returns 2 at \(\), and not one of 0, 1",
        ),
        (lambda m: ud.CausalModel([ud.Equation("X", (0, 1), lambda u: 1 / u, noise=[1])]), "function fails at"),
    ],
)
def test_wrong_questions_are_named(ask, message):
    frog = ud.tasks.prize_or_frog().causal_model(num_rounds=1)
    with pytest.raises((ValueError, TypeError), match=message):
        ask(frog)


def test_probabilities_of_causation_print_as_numbers():
    frog = ud.tasks.prize_or_frog().causal_model(num_rounds=1)
    found = frog.causation({"A_1": 1}, {"O_1": 1})
    assert str(found) == repr(found) == "Causation(necessity=1, sufficiency=nan, both=0.5)"
    batch = jax.tree.map(lambda x: jnp.stack([x, x]), found)
    assert "both=[0.5 0.5]" in str(batch)
    assert jax.jit(lambda x: (str(x), x.both)[1])(found) == 0.5
