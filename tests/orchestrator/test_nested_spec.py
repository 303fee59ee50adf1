"""Job files that name other job files: what they take over, and every error where it is."""

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import SpecError
from orchestrator.graph import Graph
from orchestrator.spec import load_spec, nesting, parse_spec
from orchestrator.spec.check import WHOLE

STEADY = settings(derandomize=True, deadline=None)


def parsed(job, **files):
    """Return the spec of a job, and of files by their names without `.yaml`."""
    attached = {f"{name}.yaml": text.encode() for name, text in files.items()}
    return parse_spec(job, file="job.yaml", folder="/home", attachments=attached)


def problems(job, **files):
    with pytest.raises(SpecError) as caught:
        parsed(job, **files)
    return caught.value.problems


def codes(job, **files):
    return [problem.code for problem in problems(job, **files)]


def running(*lines, head="project: p\n"):
    """Return a job whose one step runs `in.yaml`, with more lines in it."""
    return "\n".join(
        [f"{head}steps:", "  s:", "    workflow: in.yaml", *(f"    {x}" for x in lines)]
    )


ONE = "steps: {a: {run: echo}}\n"


def test_the_steps_of_a_file_stand_behind_the_step_that_runs_it():
    spec = parsed(
        "project: p\nsteps: {s: {workflow: in.yaml}, t: {needs: s, run: x}}",
        **{"in": "steps: {a: {run: x}, b: {needs: a, workflow: deep.yaml}}", "deep": ONE},
    )
    assert list(spec.steps) == ["s", "s/a", "s/b", "s/b/a", "t"]
    assert [step.kind for step in spec.steps.values()] == [
        "workflow",
        "run",
        "workflow",
        "run",
        "run",
    ]
    assert {decl.id: (decl.needs, decl.inside) for decl in spec.decls} == {
        "s": ((), ""),
        "s/a": ((), "s"),
        "s/b": (("s/a",), "s"),
        "s/b/a": ((), "s/b"),
        "t": (("s",), ""),
    }
    assert list(spec.nested) == ["s", "s/b"]
    assert sorted(spec.attachments) == ["deep.yaml", "in.yaml"]
    Graph(spec.decls)


def test_paths_are_relative_to_the_file_they_stand_in(tmp_path):
    for name, text in {
        "job.yaml": "steps: {s: {workflow: sub/in.yaml}}",
        "sub/in.yaml": "steps:\n  a: {llm: {prompt: file://p.md}}\n  b: {workflow: ../up.yaml}\n"
        "  c: {run: x, files: [p.md], cwd: d}\n",
        "sub/p.md": "hello",
        "up.yaml": ONE,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    spec = load_spec(tmp_path / "job.yaml")
    assert spec.steps["s/a"].llm.prompt == "hello"
    assert sorted(spec.attachments) == ["sub/in.yaml", "sub/p.md", "up.yaml"]
    assert spec.folder_of(spec.steps["s/c"]) == str(tmp_path / "sub")
    assert spec.folder_of(spec.steps["s/b/a"]) == str(tmp_path)
    assert spec.attachment(spec.steps["s/c"], "p.md") == b"hello"
    again = parse_spec(spec.source.text, "job.yaml", "/gone", spec.attachments)
    assert again.decls == spec.decls
    assert again.steps["s/a"].llm == spec.steps["s/a"].llm


def targets(head, inner):
    spec = parsed(running(head=head), **{"in": f"{inner}steps: {{a: {{llm: {{prompt: x}}}}}}"})
    llm = spec.steps["s/a"].llm
    return llm.provider, llm.model, llm.base_url, llm.options


OLLAMA = (
    "project: p\nprovider: ollama\nmodel: m\nbase_url: http://h:1\noptions: {seed: 1, top_p: 1}\n"
)


def test_a_file_takes_over_what_it_does_not_say():
    assert targets(OLLAMA, "") == ("ollama", "m", "http://h:1", {"seed": 1, "top_p": 1})
    assert targets(OLLAMA, "model: n\noptions: {seed: 2}\n") == (
        *("ollama", "n", "http://h:1"),
        {"seed": 2, "top_p": 1},
    )
    assert targets(OLLAMA, "provider: openai\nmodel: n\n")[:3] == ("openai", "n", "")
    assert targets(OLLAMA, "provider: offline\n")[:3] == ("offline", "echo", "")
    alias = "project: p\nmodels: {small: ollama/tiny}\n"
    assert targets(alias, "model: small\n")[:2] == ("ollama", "tiny")
    assert targets(alias, "models: {small: openai/x}\nmodel: small\n")[:2] == ("openai", "x")


def test_the_command_line_switches_what_is_inside_too():
    spec = parsed(running(head=OLLAMA), **{"in": "steps: {a: {llm: {prompt: '{{ model }}'}}}"})
    other = spec.with_overrides(provider="offline")
    assert other.steps["s/a"].llm.provider == "offline"
    assert other.nested["s"].values["model"] == "echo"


def test_environment_secrets_and_cache_come_from_around_and_from_the_file():
    head = "project: p\nenv: {A: '1', B: '1'}\nsecrets: [X_KEY]\ncache: false\n"
    inner = "env: {B: '2'}\nsecrets: [Y_KEY]\n"
    inner += "steps: {a: {run: x, secrets: [Z_KEY]}, b: {llm: {prompt: x}}}"
    spec = parsed(running(head=head), **{"in": inner})
    assert spec.env_of("s") == {"A": "1", "B": "2"}
    assert spec.nested["s"].values["env"] == {"B": "2"}
    assert spec.steps["s/a"].secrets == ("Y_KEY", "Z_KEY")
    assert spec.steps["s/b"].cache.use is False


def test_templates_inside_see_the_file_alone():
    inner = "steps: {a: {run: x, env: {X: '{{ inputs.n }}', Y: '{{ steps.t.output }}'}}}"
    job = "project: p\ninputs: {n: {default: 1}}\n"
    job += "steps: {t: {run: x}, s: {needs: t, workflow: in.yaml}}"
    assert codes(job, **{"in": inner}) == ["ORC126", "ORC126"]


NUMBER = "inputs: {n: {type: integer, required: true}, m: {default: x}}\n" + ONE


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("with: {n: 1}", ""),
        ("with: {n: 1, m: y}", ""),
        ("with: {n: '{{ 1 + 1 }}'}", ""),
        ("with: {m: '{{ 1 }} and {{ 2 }}', n: 1}", ""),
        ("", "in.yaml has no value for its input `n`"),
        ("with: {n: text}", "the input `n` of in.yaml is of type integer"),
        ("with: {n: 'a {{ 1 }}'}", "the input `n` of in.yaml is of type integer"),
        ("with: {n: 1, nn: 2}", "in.yaml has no input `nn`"),
        ("with: {n: 1, m: 2}", "the input `m` of in.yaml is of type string"),
    ],
)
def test_what_is_given_fits_the_inputs(given, says):
    if not says:
        parsed(running(given), **{"in": NUMBER})
        return
    (problem,) = problems(running(given), **{"in": NUMBER})
    assert (problem.code, problem.message) == ("ORC135", says)


@pytest.mark.parametrize("key", WHOLE)
def test_what_is_for_a_job_as_a_whole_a_nested_file_may_not_say(key):
    values = {"limits": "{llm: 1}", "budget": "{calls: 1}", "record": "hashes", "output_dir": "x"}
    inner = f"{key}: {values.get(key, '1')}\n{ONE}"
    parsed(f"project: p\n{inner}")
    (problem,) = problems(running(), **{"in": inner})
    assert (problem.code, problem.line, problem.file) == ("ORC134", 1, "in.yaml")


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("effects: once", "ORC118"),
        ("retry: {max_attempts: 2}", "ORC118"),
        ("for_each: [1]", "ORC118"),
        ("cache: true", "ORC118"),
        ("run: x", "ORC118"),
    ],
)
def test_what_means_nothing_around_other_steps_is_refused(said, code):
    assert codes(running(said), **{"in": ONE}) == [code]


@pytest.mark.parametrize("path", ["../x.yaml", "/x.yaml", "a/../../x.yaml", "a\\x.yaml"])
def test_a_file_outside_the_folder_is_refused(path):
    assert codes(f"project: p\nsteps: {{s: {{workflow: '{path}'}}}}") == ["ORC121"]
    assert codes("project: p\nsteps: {s: {workflow: gone.yaml}}") == ["ORC129"]


def test_files_that_run_each_other_are_told_with_their_circle():
    (problem,) = problems("project: p\nsteps: {s: {workflow: job.yaml}}")
    assert problem.message == "the files run each other in a circle: job.yaml -> job.yaml"
    (problem,) = problems(
        running(),
        **{"in": "steps: {a: {workflow: b.yaml}}", "b": "steps: {a: {workflow: ./in.yaml}}"},
    )
    assert problem.message.endswith("in.yaml -> b.yaml -> in.yaml")
    assert (problem.file, problem.via) == ("b.yaml", "step `a` of in.yaml, step `s` of job.yaml")


def test_files_go_no_deeper_than_the_limit():
    def deep(count):
        files = {f"f{n}": f"steps: {{s: {{workflow: f{n + 1}.yaml}}}}" for n in range(1, count)}
        return "project: p\nsteps: {s: {workflow: f1.yaml}}", {**files, f"f{count}": ONE}

    job, files = deep(nesting.MAX_DEPTH)
    assert len(parsed(job, **files).steps) == nesting.MAX_DEPTH + 1
    job, files = deep(nesting.MAX_DEPTH + 1)
    assert codes(job, **files) == ["ORC136"]
    # Neither if the deepest are known already when they are come to once more.
    steps = "".join(f"  s{n}: {{workflow: f{n}.yaml}}\n" for n in range(9, 0, -1))
    assert codes(f"project: p\nsteps:\n{steps}", **files) == ["ORC136"]


def test_a_few_files_can_not_make_more_steps_than_the_limit():
    ten = "".join(f"  s{n}: {{workflow: %s.yaml}}\n" for n in range(10))
    files = {"a": f"steps:\n{ten % (('b',) * 10)}", "b": f"steps:\n{ten % (('c',) * 10)}"}
    files |= {"c": f"steps:\n{ten % (('d',) * 10)}", "d": ONE}
    assert len(parsed(f"project: p\nsteps:\n{ten % (('b',) * 10)}", **files).steps) == 2110
    assert codes(f"project: p\nsteps:\n{ten % (('a',) * 10)}", **files) == ["ORC136"]


def test_a_file_that_several_steps_run_is_read_once_and_its_faults_are_told_once(monkeypatch):
    read = []
    monkeypatch.setattr(nesting, "read", lambda raw: read.append(raw) or real(raw))
    job = "project: p\nsteps: {s: {workflow: in.yaml}, t: {workflow: in.yaml}}"
    assert codes(job, **{"in": "steps: {a: {}}"}) == ["ORC118"]
    assert len(read) == 1


real = nesting.read


@pytest.mark.parametrize("name", ["a.log", "a.D"])
def test_the_folder_of_a_files_logs_is_no_other_steps(name):
    job = f"project: p\nsteps: {{{name}: {{workflow: in.yaml}}}}"
    assert codes(job, **{"in": ONE}) == ["ORC117"]


def test_two_files_do_not_publish_the_same_path():
    inner = "inputs: {n: {default: x}}\nsteps: {a: {llm: {prompt: x}, save_as: %s}}"
    job = "project: p\nsteps: {s: {workflow: in.yaml}, t: {workflow: in.yaml}}"
    (problem,) = problems(job, **{"in": inner % "x.md"})
    assert problem.message == "steps `s/a` and `t/a` both write `x.md`"
    parsed(job, **{"in": inner % "'{{ inputs.n }}.md'"})


def test_a_file_without_steps_brings_the_built_in_workflow():
    spec = parsed(running(), **{"in": "task_description: count words"})
    assert list(spec.steps) == ["s", "s/architect", "s/builder", "s/docs", "s/qa"]
    assert "workflows/default.yaml" in spec.attachments


BAD = """\
project: bad
steps:
  a: {run: echo}
  s:
    workflow: in.yaml
    with: {nn: 1, n: "x {{ steps.a.output }}"}
    env: {A: b}
  t: {workflow: gone.yaml}
  u: {workflow: in.yaml, needs: [b]}
"""
BAD_INSIDE = """\
budget: {calls: 1}
inputs: {n: {type: integer, required: true}}
steps:
  one: {runn: echo, env: {X: "{{ inputs.m }}"}}
  two: {workflow: again.yaml}
"""


def test_all_problems_of_all_files_are_told_at_once(snapshot):
    with pytest.raises(SpecError) as caught:
        parsed(BAD, **{"in": BAD_INSIDE, "again": "steps: {z: {workflow: in.yaml}}"})
    assert caught.value.render() == snapshot


def test_bad_yaml_inside_is_told_with_its_own_frame(snapshot):
    with pytest.raises(SpecError) as caught:
        parsed(running(), **{"in": "steps: a: b\n"})
    assert caught.value.render() == snapshot


keys = st.sampled_from(
    ["project", "task_description", "steps", "inputs", "outputs", "a", "needs", "with", "type"]
)
texts = st.sampled_from(["a", "b.yaml", "c.yaml", "job.yaml", "{{ inputs.a }}", "{{ x", "../x", ""])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
step = st.fixed_dictionaries({}, optional={"workflow": texts, "with": values, "needs": texts})
likely = st.fixed_dictionaries(
    {"steps": st.dictionaries(st.sampled_from(["a", "b"]), step, min_size=1)},
    optional={"project": texts, "inputs": values, "outputs": values},
)


@STEADY
@given(likely | values, likely | values, likely | values)
def test_any_files_are_a_spec_or_a_spec_error(job, b, c):
    files = {"b.yaml": json.dumps(b).encode(), "c.yaml": json.dumps(c).encode()}
    found = []
    try:
        spec = parse_spec(json.dumps(job), file="job.yaml", attachments=files)
        Graph(spec.decls)
        assert all(inner in spec.steps for inner in spec.nested)
    except SpecError as error:
        error.render().encode()
        found = error.problems
    assert all(problem.code != "ORC130" for problem in found)


def test_a_function_inside_is_looked_for_beside_its_file(tmp_path):
    from orchestrator.preflight import check_functions

    (tmp_path / "sub").mkdir()
    (tmp_path / "job.yaml").write_text("steps: {s: {workflow: sub/in.yaml}}")
    (tmp_path / "sub/in.yaml").write_text("steps: {a: {python: 'own_tools:go'}}")
    with pytest.raises(SpecError) as caught:
        check_functions(load_spec(tmp_path / "job.yaml"))
    (problem,) = caught.value.problems
    assert problem.file == os.path.join(tmp_path, "sub/in.yaml")
    assert (problem.line, problem.column, problem.code) == (1, 21, "ORC133")
    assert problem.via.startswith("step `s` of ")
    (tmp_path / "sub/own_tools.py").write_text("def go(): pass\n")
    check_functions(load_spec(tmp_path / "job.yaml"))
