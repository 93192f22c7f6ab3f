"""Grader process of the `logic` domain: answers questions of propositional logic with z3.

Only for `actors.domains.grader_pool`, which runs it in killable, memory-limited processes.
"""

import itertools
import json
from typing import NoReturn

import z3
from pydantic import JsonValue

from ....messages.tasks import LogicSpec
from ..grader_process import GradeFunction, serve_grader
from .answer_parser import MAX_LINES, Line, read_assignment, read_lines, read_table, read_value
from .formulas import (
    MAX_LETTERS,
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
from .inference_rules import rule_named

PART_OF_A_PROOF = 0.5
"""Most that a derivation can score that does not reach its end: by the share of lines that follow."""

Finding = tuple[bool, float, str, list[tuple[str, float]]]
"""Correct, score, explanation, and the breakdown's names and scores."""


def grade_logic(goal: LogicSpec, answer: str) -> Finding:
    """Judge an answer. Raises Unreadable where the goal itself cannot be read."""
    formula = read_formula(goal.formula)
    premises = [read_formula(text) for text in goal.premises]
    letters = sorted(set().union(*(letters_of(each) for each in (formula, *premises))))
    if len(letters) > MAX_LETTERS:
        raise UnreadableFormula(f"it has more than {MAX_LETTERS} letters")
    match goal.asks:
        case "value":
            return _grade_value(value_of(formula, dict(goal.assignment)), answer)
        case "satisfiable":
            return _grade_satisfiable([formula, *premises], letters, answer)
        case "entailed":
            return _grade_entailed(premises, formula, letters, answer)
        case "table":
            return _grade_table(formula, answer)
        case "equivalent":
            return _grade_equivalent(formula, answer)
        case "proof":
            return _grade_proof(premises, formula, answer)


def _finding(correct: bool, explanation: str, name: str = "answer") -> Finding:
    return correct, float(correct), explanation, [(name, float(correct))]


def _grade_value(expected: bool, answer: str) -> Finding:
    given = read_value(answer)
    if given is None:
        return _finding(False, "the answer is no truth value")
    return _finding(given is expected, f"it is {expected}")


def _grade_satisfiable(formulas: list[Formula], letters: list[str], answer: str) -> Finding:
    """Yes or no, or an assignment, which must make all of them true."""
    expected = _is_satisfiable(formulas)
    given, assignment = read_value(answer), read_assignment(answer)
    if assignment is None:
        if given is None:
            return _finding(False, "the answer is neither yes nor no, nor an assignment")
        return _finding(given is expected, "satisfiable" if expected else "unsatisfiable")
    missing = set(letters) - assignment.keys()
    if missing:
        return _finding(False, f"{min(missing)} has no value in the assignment")
    holds = all(value_of(formula, assignment) for formula in formulas)
    return _finding(holds, "the assignment makes it " + ("true" if holds else "false"))


def _grade_entailed(premises: list[Formula], formula: Formula, letters: list[str], answer: str) -> Finding:
    """Yes or no, or an assignment that makes the premises true and the conclusion false."""
    expected = follows(premises, formula)
    given, assignment = read_value(answer), read_assignment(answer)
    if assignment is None:
        if given is None:
            return _finding(False, "the answer is neither yes nor no, nor a counterexample")
        return _finding(given is expected, "it follows" if expected else "it does not follow")
    missing = set(letters) - assignment.keys()
    if missing:
        return _finding(False, f"{min(missing)} has no value in the counterexample")
    holds = all(value_of(each, assignment) for each in premises) and not value_of(formula, assignment)
    return _finding(holds, "a counterexample" if holds else "this is no counterexample")


def _grade_table(formula: Formula, answer: str) -> Finding:
    """Right if every row is; the score is the share of rows that are."""
    letters = sorted(letters_of(formula))
    table = read_table(answer, letters)
    if table is None:
        return _finding(False, f"this is no table of {2 ** len(letters)} rows", "rows")
    right = sum(
        value_of(formula, dict(zip(letters, row, strict=True))) is value for row, value in table.items()
    )
    share = right / len(table)
    return right == len(table), share, f"{right} of {len(table)} rows are right", [("rows", share)]


def _grade_equivalent(formula: Formula, answer: str) -> Finding:
    try:
        given = read_formula(
            answer.rpartition("=")[2] if answer.count("=") == 1 and ">" not in answer else answer
        )
    except UnreadableFormula as error:
        return _finding(False, f"the answer is no formula: {error}")
    same = not _is_satisfiable([Joined("xor", formula, given)])
    return _finding(same, "equivalent" if same else "not equivalent")


def _grade_proof(premises: list[Formula], conclusion: Formula, answer: str) -> Finding:
    """Each line must follow from the premises and the lines before, by the rule that it names."""
    lines = read_lines(answer)
    if not lines or len(lines) > MAX_LINES:
        return _finding(False, f"a derivation has 1 to {MAX_LINES} lines", "lines")
    known: list[Formula] = []
    credits: list[tuple[str, float]] = []
    trouble = ""
    for number, line in enumerate(lines, 1):
        try:
            formula = read_formula(line.formula)
            wrong = _objection(line, formula, premises, known)
        except UnreadableFormula as error:
            wrong = f"it cannot be read: {error}"
        if wrong:
            trouble = f"line {number}: {wrong}"
            credits.append((f"line {number}", 0.0))
            break
        known.append(formula)
        credits.append((f"line {number}", 1.0))
    if not trouble and (not known or known[-1] != conclusion):
        trouble = "the last line is not what was to be shown"
    if not trouble:
        return True, 1.0, "every line follows", credits
    return False, PART_OF_A_PROOF * len(known) / len(lines) if known else 0.0, trouble, credits


def _objection(line: Line, formula: Formula, premises: list[Formula], known: list[Formula]) -> str:
    """Objection to a line; empty if it stands.

    A line without a reason, or with one that is not known, must follow from all that is there. It may
    not be the conclusion at one blow: without a rule, a line must follow from at most two others.
    """
    if formula in premises:
        return ""
    rule = rule_named(line.reason)
    if rule == "premise":
        return "it is no premise"
    before = list(dict.fromkeys([*premises, *known]))
    if rule is not None:
        ways = itertools.product(before, repeat=rule.takes)
        return (
            ""
            if any(rule.gives(list(way), formula) for way in ways)
            else f"it does not follow by {rule.name}"
        )
    for count in (0, 1, 2):
        if any(follows(list(few), formula) for few in itertools.combinations(before, count)):
            return ""
    return "it does not follow from two lines before it" if follows(before, formula) else "it does not follow"


def follows(premises: list[Formula], formula: Formula) -> bool:
    """True if the formula is true wherever all premises are."""
    return not _is_satisfiable([*premises, Not(formula)])


def _is_satisfiable(formulas: list[Formula]) -> bool:
    solver = z3.Solver()
    solver.add(*(_to_z3(formula) for formula in formulas))
    found = solver.check()
    if found == z3.unknown:
        raise RuntimeError(f"z3 does not know: {solver.reason_unknown()}")
    return bool(found == z3.sat)


def _to_z3(formula: Formula) -> z3.BoolRef:
    match formula:
        case Letter(name=name):
            return z3.Bool(name)
        case Constant(value=value):
            return z3.BoolVal(value)
        case Not(inner=inner):
            return z3.Not(_to_z3(inner))
        case Joined(how=how, left=left, right=right):
            a, b = _to_z3(left), _to_z3(right)
            return {
                "and": z3.And, "or": z3.Or, "xor": z3.Xor, "implies": z3.Implies, "iff": lambda a, b: a == b
            }[how](a, b)  # fmt: skip


def grade_job(text: str) -> JsonValue:
    """One job: `[goal, answer]` as JSON; gives a finding."""
    goal, answer = json.loads(text)
    return json.loads(json.dumps(grade_logic(LogicSpec.model_validate(goal), answer)))  # type: ignore[no-any-return]


def prepare() -> GradeFunction:
    """Warm up on a question of our own."""
    follows([read_formula("p and q")], read_formula("p"))
    return grade_job


def main() -> NoReturn:
    """Be the grader's server."""
    serve_grader(prepare)
