"""What is wrong with a pipeline is found before anything runs, and said in one sentence."""

from pathlib import Path

import pytest

from agentfactory.actors.pipelines.plan import BadPipeline, PipelinePlan
from agentfactory.configs.agents.pipelines import PIPELINES, load_pipeline
from agentfactory.configs.errors import SettingsError
from agentfactory.messages.data import Param

HEAD = """
pipeline_id: tried
agents:
  loader: {type: ingestor, backend: claude, model: sonnet, default_tag: docs, default_format: arrow}
  reader: {type: retriever}
  anyone: {type: rule_based, default_tag_pattern: "d*"}
variables: {tag: docs}
steps:
"""
LOAD = "  - {name: load, agent: loader, inputs: {src: '${pipeline.src}'}, outputs: [tag, files]}\n"


def write(folder: Path, steps: str, head: str = HEAD) -> Path:
    path = folder / "tried.yaml"
    path.write_text(head + steps)
    return path


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        (LOAD + LOAD, ["'load': there are several of this name"]),
        ("  - {id: a, agent: lodaer}", ["a: there is no role 'lodaer'; did you mean 'loader'?"]),
        (LOAD + "  - {id: b, agent: reader, depends_on: [laod]}", ["no step 'laod'; did you mean 'load'?"]),
        (
            LOAD + "  - {id: b, agent: reader, inputs: {tag_pattern: '${laod.tag}'}}",
            ["b: ${laod.tag}: there is no step 'laod'; did you mean 'load'?"],
        ),
        ("  - {id: a, agent: reader, depends_on: [a]}", ["a circle: a → a"]),
        (
            "  - {id: a, agent: reader, depends_on: [c]}\n"
            "  - {id: b, agent: reader, inputs: {tag_pattern: '${a.tag}'}}\n"
            "  - {id: c, agent: reader, depends_on: [b]}",
            ["a circle: ", "a → b", "b → c", "c → a"],
        ),
        ("  - {id: a, agent: reader, inputs: {tag_pattern: '${load}'}}", ["${load}", "${STEP.OUTPUT}"]),
        ("  - {id: a, agent: reader, inputs: {tag_pattern: '${load.x'}}", ["without its }"]),
        ("  - {id: a, agent: reader, retires: 3}", ["unknown key 'steps.0.retires'", "'retries'"]),
        ("  - {id: pipeline, agent: reader}", ["'pipeline' is what the variables belong to"]),
        ("  - {id: a, agent: reader, instruction: get it, inputs: {tag: x}}", ["an instruction says it all"]),
        ("  - {id: 'a b', agent: reader}", ["steps.0.", "'a b'"]),
        ("  []", ["steps"]),
        ("  - {id: a\n", ["line "]),
    ],
)
def test_what_the_file_alone_shows_is_refused_when_it_is_read(
    steps: str, words: list[str], tmp_path: Path
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_pipeline(write(tmp_path, steps))
    for word in ["tried.yaml", *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("steps", "given", "sentence"),
    [
        (LOAD, {"scr": "x"}, "load: ${pipeline.src}: there is no variable 'src'; did you mean 'scr'?"),
        (LOAD, {"src": "file::x", "dts": "y"}, "dts=…: the pipeline has no variable 'dts'; it uses: 'src'"),
        (
            LOAD + "  - {id: b, agent: reader, inputs: {tag_pattern: '${load.tga}'}}",
            {"src": "x"},
            "b: ${load.tga}: 'load' has no output 'tga'; did you mean 'tag'?",
        ),
        (
            LOAD + "  - {id: b, agent: reader, inputs: {tag_pattern: '${load.stored}'}}",
            {"src": "x"},
            "'load' has no output 'stored'; it has: 'tag', 'files'",
        ),
        (
            "  - {id: a, agent: loader, inputs: {src: x}, outputs: [tags]}",
            {},
            "a: outputs: it gives no 'tags'; did you mean 'tag'?",
        ),
        (
            "  - {id: a, agent: reader, action: destroy, inputs: {tags: docs}}",
            {},
            "a: 'reader' cannot do 'destroy'; it can do: 'query', 'retrieve', 'prune'",
        ),
        (
            "  - {id: a, agent: loader, inputs: {tag: docs, blob_name: x}}",
            {},
            "a: 'loader' can do nothing with these inputs: assimilate has no input 'tag'",
        ),
        ("  - {id: a, agent: reader, action: retrieve, inputs: {tag: docs}}", {}, "retrieve needs blob_name"),
        (
            "  - {id: a, agent: loader, inputs: {src: x, format: xml}}",
            {},
            "a: inputs.format: Input should be 'arrow', 'binary', 'text', 'csv', 'json', 'markdown' or "
            "'parquet', found 'xml'",
        ),
        (
            "  - {id: a, agent: anyone, action: list_blobs, inputs: {limit: '${pipeline.most}'}}",
            {"most": 0},
            "a: inputs.limit: Input should be greater than or equal to 1, found 0",
        ),
    ],
)
def test_what_the_actions_do_not_take_is_refused_before_anything_runs(
    steps: str, given: dict[str, Param], sentence: str, tmp_path: Path
) -> None:
    spec = load_pipeline(write(tmp_path, steps))
    with pytest.raises(BadPipeline) as caught:
        PipelinePlan.of(spec, given)
    assert sentence in str(caught.value)


def test_the_action_of_a_step_is_the_one_that_takes_its_inputs(tmp_path: Path) -> None:
    spec = load_pipeline(
        write(
            tmp_path,
            "  - {id: load, agent: loader, inputs: {src: file::x}}\n"
            "  - {id: look, agent: anyone}\n"
            "  - {id: see, agent: reader, inputs: {tag: docs}}\n"
            "  - {id: fetch, agent: reader, inputs: {tag: docs, blob_name: x}}\n"
            "  - {id: forget, agent: reader, inputs: {tag: docs, blob_names: [x]}}\n"
            "  - {id: away, agent: anyone, inputs: {tags: [docs]}}\n"
            "  - {id: say, agent: reader, instruction: 'get ${load.blob_name} from docs'}\n",
        )
    )
    plan = PipelinePlan.of(spec)
    chosen = {name: (step.action, dict(step.inputs)) for name, step in plan.steps.items()}
    assert chosen == {
        "load": ("assimilate", {"src": "file::x", "dst": "docs", "format": "arrow"}),
        "look": ("query", {"tag_pattern": "d*"}),
        "see": ("query", {"tag_pattern": "docs"}),
        "fetch": ("retrieve", {"tag": "docs", "blob_name": "x"}),
        "forget": ("prune", {"tag": "docs", "blob_names": ("x",)}),
        "away": ("destroy", {"tags": ("docs",)}),
        "say": ("", {}),
    }
    assert plan.steps["say"].needs == ("load",)


@pytest.mark.parametrize("path", sorted(PIPELINES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_pipeline_can_run_as_it_is(path: Path) -> None:
    assert PipelinePlan.of(load_pipeline(path)).steps
