"""Names in expressions, in plain text and in LaTeX."""

import pytest

import undelude as ud
from undelude.causal._expressions.notation import latex_name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("A", "A"),
        ("Theta", r"\Theta"),
        ("Theta_1", r"\Theta_{1}"),
        ("A_120", "A_{120}"),
        ("A_1_20", "A_{1,20}"),
        ("U_O", "U_{O}"),
        ("dose", r"\mathrm{dose}"),
        ("blood_pressure", r"\mathrm{blood\_pressure}"),
        ("blood_pressure_1", r"\mathrm{blood\_pressure}_{1}"),
        ("U_dose", r"\mathrm{U\_dose}"),
        ("_A", r"\mathrm{\_A}"),
        ("A_", r"\mathrm{A\_}"),
        ("50% dose", r"\mathrm{50\%\ dose}"),
        ("R&D #1", r"\mathrm{R\&D\ \#1}"),
        ("{a}$", r"\mathrm{\{a\}\$}"),
        ("a\\b^c~", r"\mathrm{a\backslash{}b\hat{}c\sim{}}"),
        ("%", r"\mathrm{\%}"),
        ("A <-> blood_pressure", r"(A \leftrightarrow \mathrm{blood\_pressure})"),
    ],
)
def test_names_in_latex(name, text):
    assert latex_name(name) == text


def test_estimands_escape_names():
    graph = {"blood_pressure": (), "50% dose": "blood_pressure", "O": ("50% dose", "blood_pressure")}
    assert ud.identify(graph, "O", do="50% dose").latex() == (
        r"\sum_{\mathrm{blood\_pressure}} P(O \mid \mathrm{50\%\ dose}, \mathrm{blood\_pressure}) \, "
        r"P(\mathrm{blood\_pressure})"
    )
    frontdoor = ud.Graph({"A": (), "M": "A", "O": "M"}, bidirected=[("A", "O")])
    found = ud.causal.identify_counterfactual(frontdoor, {"O": "50%"}, do={"A": 0}, experiments=[()])
    assert r"O=\mathrm{50\%}" in found.latex()


def test_a_summed_name_with_a_space_is_braced():
    observed = ud.causal.remedies(ud.Graph({"A": (), "O": "A"}, bidirected=[("A", "O")]), "O", do="A").observe
    assert str(observed["A <-> O",]) == "sum_{A <-> O} P(O | A, A <-> O) P(A <-> O)"
    assert str(ud.identify({"Z": (), "A": "Z", "O": ("A", "Z")}, "O", do="A")) == "sum_Z P(O | A, Z) P(Z)"


def test_impossible_evidence_names_the_actual_world():
    """The copies of variables in the other world, such as `A*`, are no names of the model."""
    frog = ud.tasks.prize_or_frog().causal_model(num_rounds=1)
    with pytest.raises(ValueError, match=r"gives A_1=0, O_1=0 no probability\. Correct"):
        frog.counterfactual("O_1", do={"A_1": 1}, given={"A_1": 0, "O_1": 0})
    with pytest.raises(ValueError, match=r"gives Theta=0, O_1=0 no probability under do\(A_1=0\)\. Correct"):
        frog.counterfactual("O_1", do={"A_1": 1}, given={"Theta": 0, "O_1": 0}, given_do={"A_1": 0})
    model = ud.CausalModel(
        [
            ud.Variable("Z", (0, 1), table=[1, 0]),
            ud.Variable("A", (0, 1), table=[0.5, 0.5]),
            ud.Equation("O", (0, 1), lambda a, z, u: a & u, ("A", "Z"), noise=[0.5, 0.5]),
        ]
    )
    with pytest.raises(ValueError, match=r"gives Z=1 no probability\. Correct"):
        model.causation({"A": 1}, {"O": 1}, given={"Z": 1})
