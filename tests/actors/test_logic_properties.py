"""Formulas drawn at random: the solver's verdict is that of the truth table, in every notation."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentfactory.actors.domains.logic.answer_parser import (
    read_assignment,
    read_lines,
    read_table,
    read_value,
)
from agentfactory.actors.domains.logic.formulas import (
    Constant,
    Formula,
    Joined,
    Letter,
    Not,
    UnreadableFormula,
    letters_of,
    read_formula,
    value_of,
)
from agentfactory.actors.domains.logic.grader import follows, grade_logic
from agentfactory.actors.domains.logic.inference_rules import rule_named
from agentfactory.messages.tasks import LogicSpec

QUIET = settings(max_examples=80, deadline=None)
NOTATIONS = (
    {"not": "not ", "and": " and ", "or": " or ", "xor": " xor ", "implies": " implies ", "iff": " iff "},
    {"not": "¬", "and": "∧", "or": "∨", "xor": "⊕", "implies": "→", "iff": "↔"},
    {"not": "!", "and": "&&", "or": "||", "xor": "^", "implies": "->", "iff": "<->"},
    {"not": "\\neg ", "and": "\\land ", "or": "\\lor ", "xor": "\\oplus ", "implies": "\\to ", "iff": "⇔"},
)  # fmt: skip

HOW = st.sampled_from(["and", "or", "xor", "implies", "iff"])
FORMULAS: st.SearchStrategy[Formula] = st.recursive(
    st.one_of(st.sampled_from([Letter(name) for name in "pqrs"]), st.booleans().map(Constant)),
    lambda inner: st.one_of(inner.map(Not), st.builds(Joined, HOW, inner, inner)),
    max_leaves=8,
)


def written(formula: Formula, marks: dict[str, str]) -> str:
    match formula:
        case Letter(name=name):
            return name
        case Constant(value=value):
            return "true" if value else "false"
        case Not(inner=inner):
            return f"{marks['not']}({written(inner, marks)})"
        case Joined(how=how, left=left, right=right):
            return f"({written(left, marks)}){marks[how]}({written(right, marks)})"


def true_rows(formulas: list[Formula]) -> int:
    letters = sorted(set().union(*map(letters_of, formulas)))
    rows = itertools.product((False, True), repeat=len(letters))
    assignments = (dict(zip(letters, row, strict=True)) for row in rows)
    return sum(all(value_of(f, a) for f in formulas) for a in assignments)


@QUIET
@given(FORMULAS, st.sampled_from(NOTATIONS))
def test_a_formula_reads_the_same_in_every_notation(formula: Formula, marks: dict[str, str]) -> None:
    assert read_formula(written(formula, marks)) == formula


@QUIET
@given(st.lists(FORMULAS, max_size=3), FORMULAS)
def test_what_follows_is_what_the_truth_table_says(premises: list[Formula], conclusion: Formula) -> None:
    assert follows(premises, conclusion) is (true_rows([*premises, Not(conclusion)]) == 0)


@QUIET
@given(FORMULAS, FORMULAS)
def test_equivalence_is_what_the_truth_table_says(one: Formula, other: Formula) -> None:
    goal = LogicSpec(asks="equivalent", formula=written(one, NOTATIONS[1]))
    correct, *_ = grade_logic(goal, written(other, NOTATIONS[0]))
    assert correct is (true_rows([Joined("xor", one, other)]) == 0)


@QUIET
@given(st.lists(FORMULAS, max_size=2), FORMULAS)
def test_a_rule_never_leads_where_entailment_does_not(lines: list[Formula], to: Formula) -> None:
    for name in ("modus ponens", "resolution", "de morgan", "contraposition", "addition", "conjunction"):
        rule = rule_named(name)
        assert rule is not None
        assert rule != "premise"
        for way in itertools.product([*lines, to], repeat=rule.takes):
            if rule.gives(list(way), to):
                assert follows(list(way), to), (name, way, to)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="pqrTF01()[]{}¬∧∨→<->=&|~! ,.:;\n\\andotrfim\t⊤", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    read_value(text)
    read_assignment(text)
    read_table(text, ["p", "q"])
    read_lines(text)
    rule_named(text)
    for asks in ("value", "satisfiable", "entailed", "table", "equivalent", "proof"):
        goal = LogicSpec.model_validate(
            {"asks": asks, "formula": "p -> q", "premises": ["p"], "assignment": [["p", True], ["q", False]]}
        )
        correct, score, _, breakdown = grade_logic(goal, text)
        assert score == 1.0 if correct else 0.0 <= score < 1.0
        assert breakdown


@pytest.mark.parametrize("text", ["[", " ", "[p", "[ ]", "(by ", "p -> q [", "so ", "1. ", "by ", "--"])
def test_a_line_of_any_length_is_read_in_linear_time(text: str) -> None:
    """Each of these would take minutes if a pattern went back over it."""
    assert read_lines(f"p{text * 40_000}q")
    assert read_value(f"{text * 40_000}q") is None


@pytest.mark.parametrize(
    "text", ["", "p q r", "p and", "(p", "p)", "p ~ q", "not", "x12y", "p" * 3000, "(" * 500]
)
def test_what_is_no_formula_is_refused(text: str) -> None:
    with pytest.raises(UnreadableFormula):
        read_formula(text)


def test_precedence_is_not_and_xor_or_implies_iff() -> None:
    same = {
        "not p and q": "(not p) and q",
        "p or q and r": "p or (q and r)",
        "p xor q or r": "(p xor q) or r",
        "p -> q -> r": "p -> (q -> r)",
        "p or q -> r": "(p or q) -> r",
        "p <-> q -> r": "p <-> (q -> r)",
    }
    for short, long in same.items():
        assert read_formula(short) == read_formula(long), short
