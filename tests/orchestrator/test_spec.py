import hashlib
import io
import json
import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import spec as spec_module
from orchestrator.errors import (
    ConfigError,
    ExitCode,
    FailureKind,
    Problem,
    SpecError,
    UsageError,
)
from orchestrator.graph import Graph
from orchestrator.preflight import check_functions
from orchestrator.retry import RetryPolicy
from orchestrator.spec import check as spec_check
from orchestrator.spec import load_spec, parse_spec, spec_from_dict, workflow_text, yamldoc
from orchestrator.templates import render_text

# The same examples each time; a slow machine is no failure.
STEADY = settings(derandomize=True, deadline=None)

SHORT = "project: tiny\ntask_description: count words\n"


def problems(text, **more):
    with pytest.raises(SpecError) as caught:
        parse_spec(text, **more)
    assert caught.value.exit_code == ExitCode.USAGE
    return caught.value.problems


def codes(text, **more):
    return [problem.code for problem in problems(text, **more)]


def step(text, head="project: p\n"):
    """Return the one step of a spec, given what stands below its name."""
    body = "".join(f"    {line}\n" for line in text.splitlines())
    return parse_spec(f"{head}steps:\n  s:\n{body}").steps["s"]


def step_problems(text):
    body = "".join(f"    {line}\n" for line in text.splitlines())
    return problems(f"project: p\nsteps:\n  s:\n{body}")


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("budget: 5", "ORC114", "a map"),
        ("budget: {cost_usd: lots}", "ORC114", "a number of US dollars"),
        ("budget: {cost_usd: -1}", "ORC114", "a number of US dollars"),
        ("budget: {cost_usd: true}", "ORC114", "a number of US dollars"),
        ("budget: {tokens: 0}", "ORC116", "from 1"),
        ("budget: {calls: 1.5}", "ORC114", "an integer"),
        ("limits: {llm: 0}", "ORC116", "1 to 1,000"),
        ("limits: {shell: 1}", "ORC112", "unknown key `shell`"),
        ("limits: {output_bytes: 5}", "ORC116", "1,024"),
        ("budget: {call: 1}", "ORC112", "unknown key `call`"),
        ("max_cost: 5", "ORC112", "unknown key `max_cost`"),
    ],
)
def test_one_thing_wrong_with_a_budget_is_one_problem(text, code, says):
    (problem,) = problems(f"project: p\n{text}\nsteps: {{s: {{run: x}}}}\n")
    assert problem.code == code
    assert says in problem.message


def test_a_budget_in_money_is_kept_as_it_was_written():
    for written, kept in (("2.50", "2.5"), ("'2.50'", "2.50"), ("0.0000001", "0.0000001")):
        text = f"project: p\nbudget: {{cost_usd: {written}}}\nsteps: {{s: {{run: x}}}}\n"
        assert parse_spec(text).budget.cost_usd == kept


# --- the short form ---------------------------------------------------------------------------


def test_the_short_form_of_the_guide_gets_the_built_in_workflow():
    spec = parse_spec(
        SHORT + "provider: offline\nmodel: offline/echo\nconcurrency: 2\ntimeout_s: 30\n"
        "output_dir: outputs\n"
    )
    assert (spec.project, spec.provider, spec.model) == ("tiny", "offline", "echo")
    assert (spec.concurrency, spec.timeout_s, spec.output_dir) == (2, 30.0, "")
    assert spec.workflow == "default"
    graph = Graph(spec.decls)
    assert graph.needs == {
        "architect": (),
        "builder": ("architect",),
        "docs": ("architect",),
        "qa": ("builder", "docs"),
    }
    assert {step.kind for step in spec.steps.values()} == {"llm"}
    assert [step.save_as for step in spec.steps.values()] == [
        "architecture.md",
        "build.md",
        "docs.md",
        "qa.md",
    ]
    assert all(step.timeout_s is None for step in spec.steps.values())
    assert spec.attachments == {"workflows/default.yaml": workflow_text().encode()}


def test_the_built_in_workflow_is_a_spec_once_it_has_a_task():
    whole = parse_spec("project: p\ntask_description: t\n" + workflow_text())
    short = parse_spec("project: p\ntask_description: t\n")
    assert whole.steps == short.steps
    assert whole.workflow == ""


def test_the_built_in_prompts_render_from_the_task_and_the_texts_of_what_a_step_needs():
    spec = parse_spec(SHORT)
    graph = Graph(spec.decls)
    for name, built_in in spec.steps.items():
        steps = {need: {"output": {"text": f"<{need}'s>"}} for need in graph.ancestors(name)}
        values = {**spec.values, "steps": steps, "with": {}}
        prompt = render_text(built_in.llm.prompt, values)
        assert "count words" in prompt
        for need in built_in.needs:
            assert f"<{need}'s>" in prompt
        assert render_text(built_in.llm.system, values)


def test_the_tiny_example_is_the_short_form():
    path = os.path.join(os.path.dirname(__file__), "..", "..", "examples", "tiny_spec.yaml")
    spec = load_spec(path)
    assert spec.provider == "offline"
    assert spec.workflow == "default"
    assert len(spec.steps) == 4


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("project: p\n", "ORC115"),
        ("task_description: t\n", "ORC115"),
        ("project: p\nsteps: {}\n", "ORC115"),
        ("", "ORC111"),
        ("# only a comment\n", "ORC111"),
        ("- a\n", "ORC111"),
        ("just text\n", "ORC111"),
    ],
)
def test_a_spec_that_says_too_little(text, code):
    assert codes(text) == [code]


def test_a_name_stands_in_for_a_project_and_the_files_name_for_both():
    task = "task_description: t\n"
    assert parse_spec(f"name: Word count\n{task}").project == "Word count"
    assert parse_spec(task, file="jobs/words.yaml").project == "words"
    assert parse_spec(f"project: p\nname: n\n{task}", file="words.yaml").project == "p"


@pytest.mark.parametrize(
    "label", ["../../x", "a/b", "a\\b", "..", ".", "'\\\\'", '"a\\nb"', '"\\e"']
)
def test_a_label_is_no_path_and_has_no_control_characters(label):
    for key in ("project", "name"):
        (problem,) = problems(f"{key}: {label}\ntask_description: t\n")
        assert problem.code == "ORC117"
        assert problem.line == 1


@pytest.mark.parametrize(
    "label", ["Client notes, v2: draft", "Übung 1", "a..b", "名前 😀", "x" * 200]
)
def test_a_label_is_free_text_otherwise(label):
    assert parse_spec(f"project: '{label}'\ntask_description: t\n").project == label


# --- steps ------------------------------------------------------------------------------------


def test_a_step_of_each_kind():
    spec = parse_spec(
        """
project: p
provider: ollama
model: m
base_url: http://localhost:1/x
options: {temperature: 0, seed: 1}
output_dir: out
env: {A: "1"}
inputs: {topic: {default: AI}}
steps:
  fetch:
    run: git log | head
    env: {TOPIC: "{{ inputs.topic }} {{ env.A }}"}
    cwd: sub
    timeout_s: 5
  merge:
    python: tools.merge:run
    needs: fetch
    with: {log: "{{ steps.fetch.output }}", n: 3}
    retry: {max_attempts: 5, on: [exception, timeout]}
  tell:
    needs: [merge]
    llm:
      system: "You write about {{ with.a }}"
      prompt: "{{ steps.merge.output }} {{ steps.fetch.output }}"
      options: {seed: 2}
      output: {type: object}
      sample: 1
    with: {a: b}
    save_as: a/b.md
  other:
    llm: {prompt: hi, provider: offline}
outputs:
  text: "{{ steps.tell.output.text }}"
"""
    )
    fetch, merge, tell, other = spec.steps.values()
    assert (fetch.kind, fetch.run, fetch.cwd) == ("run", "git log | head", "sub")
    assert fetch.timeout_s == 5.0
    assert (merge.kind, merge.python, merge.needs) == ("python", "tools.merge:run", ("fetch",))
    assert merge.with_ == {"log": "{{ steps.fetch.output }}", "n": 3}
    assert merge.retry == RetryPolicy(
        max_attempts=5, on=(FailureKind.EXCEPTION, FailureKind.TIMEOUT)
    )
    assert fetch.retry is None
    assert (tell.llm.provider, tell.llm.model) == ("ollama", "m")
    assert tell.llm.base_url == "http://localhost:1/x"
    assert tell.llm.options == {"temperature": 0, "seed": 2}
    assert (tell.llm.output, tell.llm.sample) == ({"type": "object"}, 1)
    assert tell.save_as == "out/a/b.md"
    # What the spec says of its own server does not go to another provider.
    assert (other.llm.provider, other.llm.model, other.llm.base_url) == ("offline", "echo", "")
    assert spec.outputs == {"text": "{{ steps.tell.output.text }}"}


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("run: x\npython: a:b", "ORC118", "two kinds"),
        ("needs: []", "ORC118", "nothing to do"),
        ("run: echo {{ inputs.x }}", "ORC128", "not a template"),
        ("python: nofunction", "ORC116", "does not name a function"),
        ("python: a/b.py:run", "ORC116", "does not name a function"),
        ("llm: hello", "ORC114", "must be a map"),
        ("llm: {system: s}", "ORC115", "no `prompt`"),
        ("llm: {prompt: ' '}", "ORC116", "empty"),
        ("run: x\nsave_as: y", "ORC118", "`save_as` means nothing"),
        ("run: x\nwith: {a: 1}", "ORC118", "`with` means nothing"),
        ("llm: {prompt: x}\ncwd: y", "ORC118", "`cwd` means nothing"),
        ("llm: {prompt: x, provider: olama}", "ORC119", "olama"),
        ("llm: {prompt: x, provider: openai}", "ORC120", "needs a model"),
        ("llm: {prompt: x, model: gpt}", "ORC119", "no model"),
        ("llm: {prompt: x, base_url: 'http://u:p@h/'}", "ORC116", "not a web address"),
        ("llm: {prompt: x, base_url: 'file:///etc'}", "ORC116", "not a web address"),
        ("llm: {prompt: x}\nsave_as: ../x", "ORC121", "inside outputs/"),
        ("llm: {prompt: x}\nsave_as: /x", "ORC121", "inside outputs/"),
        ("llm: {prompt: x}\nsave_as: '{{ nope }}.md'", "ORC126", "uses `nope`"),
        ("run: x\nneeds: [s]", "ORC124", "needs itself"),
        ("run: x\nneeds: [t]", "ORC123", "not a step"),
        ("run: x\nneeds: 5", "ORC114", "list of texts"),
        ("run: x\nneeds: [[a]]", "ORC114", "must be text"),
        ("run: x\ntimeout_s: 0", "ORC116", "0.001 to 2,592,000"),
        ("run: x\ntimeout_s: 5s", "ORC114", "must be a number"),
        ("run: x\ntimeout_s: true", "ORC114", "not a boolean"),
        ("run: x\ncache: yes", "ORC114", "true, false or a map"),
        ("run: x\ncache: {scope: all}", "ORC116", "no scope of the cache"),
        ("run: x\ncache: {ttl_s: -1}", "ORC116", "must be from 0"),
        ("run: x\ncache: {ttl: 5}", "ORC112", "unknown key"),
        ("run: x\nttl_s: 5", "ORC112", "unknown key"),
        ("run: x\nretry: {max_attempts: 0}", "ORC116", "1 to 100"),
        ("run: x\nretry: {on: [timout]}", "ORC116", "timout"),
        ("run: x\nretry: {initial_s: 60}", "ORC116", "max_s"),
        ("run: x\nenv: {A: 1}", "ORC114", "must be text"),
        ("run: x\nenv: {'A=B': x}", "ORC117", "environment variable"),
        ('run: "x\\0"', "ORC116", "NUL"),
        ("run: x\nfor_each: some", "ORC114", "a list, or the template of one"),
        ("run: x\nfor_each: 'a {{ inputs }}'", "ORC114", "a list, or the template of one"),
        ("run: x\nfor_each: []\nmatrix: {a: [1]}", "ORC118", "not both"),
        ("run: x\nmax_parallel: 2", "ORC118", "runs once"),
        ("run: x\nkey: k", "ORC118", "means nothing"),
        ("run: x\nmatrix: {}", "ORC115", "has no axis"),
        ("run: x\nmatrix: {a: 1}", "ORC114", "a list, or the template of one"),
        ("run: x\nmatrix: {a: []}", "ORC116", "has no values"),
        ("run: x\nmatrix: {a-b: [1]}", "ORC117", "can't name an axis"),
        ("run: x\nmatrix: {a: [1], exclude: [1]}", "ORC114", "must be a map"),
        ("run: x\nmatrix: {a: [1]}\nenv: {A: '{{ matrix.b }}'}", "ORC126", "matrix.b"),
        ("run: x\nenv: {A: '{{ item }}'}", "ORC126", "uses `item`"),
        ("run: x\nfor_each: ['{{ item }}']", "ORC126", "uses `item`"),
        ("approve: {}", "ORC115", "`approve` has no `message`"),
        ("approve: Publish?", "ORC114", "`approve` must be a map"),
        ("approve: {message: '{{ nothing }}'}", "ORC126", "`nothing`"),
        ("approve: {message: m}\ntimeout_s: 3", "ORC118", "means nothing in a step of kind"),
        ("approve: {message: m}\nrun: x", "ORC118", "of two kinds"),
        ("run: x\ndepends_on: []", "ORC112", "unknown key"),
        ("run: x\nif: ''", "ORC116", "empty"),
        ("run: x\nif: 5", "ORC114", "an expression"),
        ("run: x\nif: '{{ inputs.a }} and {{ inputs.b }}'", "ORC125", "one expression"),
        ("run: x\nif: 'inputs.a =='", "ORC125", "bad template"),
        ("run: x\nif: nope", "ORC126", "`nope`"),
        ("run: x\nif: failure()", "ORC126", "`failure`"),
        ("run: x\nif: job.status == 'failed'", "ORC126", "`job`"),
        ("run: x\nif: steps.t.status == 'failed'", "ORC126", "no step `t`"),
        ("run: x\nenv: {A: '{{ always() }}'}", "ORC126", "`always`"),
        ("run: x\ncontinue_on_error: 1", "ORC114", "true or false"),
        ("run: x\nfinally: [a]", "ORC114", "true or false"),
        ("run: x\neffects: onec", "ORC116", "can't be `onec`"),
        ("run: x\neffects: once\non_interrupted: retry", "ORC116", "`on_interrupted`"),
        ("run: x\non_interrupted: skip", "ORC118", "without `effects: once`"),
        ("run: x\neffects: idempotent\non_interrupted: skip", "ORC118", "without"),
        ("run: x\nmax_recoveries: -1", "ORC116", "0 to 1,000"),
        ("run: x\nwhen: inputs.a", "ORC112", "unknown key"),
        ("run: x\nfiles: [../y]", "ORC121", "inside the spec's folder"),
        ("run:", "ORC114", "not null"),
    ],
)
def test_one_thing_wrong_with_a_step_is_one_problem(text, code, says):
    (problem,) = step_problems(text)
    assert problem.code == code
    assert says in problem.message
    assert problem.line >= 3


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("run: x\ndepends_on: []", "`needs`"),
        ("runn: x\nrun: y", "`run`"),
        ("run: x\ntimeout: 5", "`timeout_s`"),
        ("llm: {prompt: x, temperature: 1}", "under `options:`"),
        ("llm: {prompt: x}\nprompt: y", "under `llm:`"),
        ("run: x\nretry: {attempts: 1}", "`max_attempts`"),
    ],
)
def test_an_unknown_key_comes_with_what_was_meant(text, hint):
    (problem,) = step_problems(text)
    assert problem.code == "ORC112"
    assert hint in problem.hint


@pytest.mark.parametrize("name", ["../x", "a b", "-a", ".a", "a/b", "x" * 65, "ä"])
def test_a_step_is_named_so_that_it_can_name_files(name):
    (problem,) = problems(f"project: p\nsteps:\n  {json.dumps(name)}: {{run: x}}\n")
    assert problem.code == "ORC117"


def test_a_cycle_is_named_whole_and_once():
    text = "project: p\nsteps:\n" + "".join(
        f"  {name}: {{run: x, needs: [{needs}]}}\n"
        for name, needs in [("a", "c"), ("b", "a"), ("c", "b"), ("d", "a")]
    )
    (problem,) = problems(text)
    assert problem.code == "ORC124"
    assert "a -> c -> b -> a" in problem.message
    assert (problem.line, problem.column) == (3, 23)


@pytest.mark.parametrize(("first", "second"), [("a.md", "a.md"), ("A.md", "a.md"), ("a", "a/b")])
def test_two_steps_do_not_write_the_same_file(first, second):
    text = (
        "project: p\nsteps:\n"
        f"  x: {{llm: {{prompt: p}}, save_as: {first}}}\n"
        f"  y: {{llm: {{prompt: p}}, save_as: {second}}}\n"
    )
    assert codes(text) == ["ORC122"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("outputs", ""),
        (".", ""),
        ("./outputs", ""),
        ("outputs/", ""),
        ("x/y", "x/y"),
        ("./x/", "x"),
        ("outputs/x", "x"),
    ],
)
def test_the_output_folder_lies_inside_outputs(written, meant):
    spec = parse_spec(SHORT + f"output_dir: {written}\n")
    assert spec.output_dir == meant
    assert spec.steps["qa"].save_as == (f"{meant}/qa.md" if meant else "qa.md")


@pytest.mark.parametrize("path", ["/etc", "..", "x/../../y", "outputs/../..", "/", "a\\b"])
def test_an_output_folder_elsewhere_is_refused(path):
    assert codes(SHORT + f"output_dir: {path}\n") == ["ORC121"]


# --- templates --------------------------------------------------------------------------------

CHAIN = """project: p
inputs: {topic: {default: x}}
steps:
  one-a: {run: x}
  two: {run: x, needs: one-a}
  three:
    needs: two
    llm:
      prompt: |
        First line
        TEMPLATE
"""


@pytest.mark.parametrize(
    ("template", "code", "says", "hint"),
    [
        ("{{ steps.twoo }}", "ORC126", "no step `twoo`", "`steps.two`"),
        ("{{ steps.one.output }}", "ORC126", "no step `one`", '`steps["one-a"]`'),
        ("{{ steps.three.output }}", "ORC127", "its own step", ""),
        ("{{ stepz.two }}", "ORC126", "`stepz`", "`steps`"),
        ("{{ two.output }}", "ORC126", "`two`", "`steps.two.output`"),
        ("{{ topic }}", "ORC126", "`topic`", "`inputs.topic`"),
        ("{{ inputs.topc }}", "ORC126", "`inputs.topc`", "`inputs.topic`"),
        ("{{ with.x }}", "ORC126", "`with.x`", "under `with:`"),
        ("{{ env.HOME }}", "ORC126", "`env.HOME`", "under `env:`"),
        ("{{ task_description }}", "ORC126", "task_description", "set `task_description:`"),
        ("{{ 1 + }}", "ORC125", "bad template", ""),
        ("{{ project | uper }}", "ORC125", "no filter", ""),
        ("{% include 'x' %}", "ORC125", "load another", ""),
    ],
)
def test_a_bad_template_is_found_where_it_stands(template, code, says, hint):
    (problem,) = problems(CHAIN.replace("TEMPLATE", template))
    assert problem.code == code
    assert says in problem.message
    assert hint in problem.hint
    assert problem.line == 11


def test_a_template_may_use_what_a_step_needs_through_others_and_nothing_else():
    good = '{{ steps["one-a"].output }} {{ steps.two.output }} {{ inputs.topic }} {{ project }}'
    assert parse_spec(CHAIN.replace("TEMPLATE", good)).steps["three"].llm.prompt.endswith("}}\n")
    text = "project: p\nsteps:\n  a: {run: x}\n  b: {run: x, env: {V: '{{ steps.a.output }}'}}\n"
    (problem,) = problems(text)
    assert (problem.code, problem.line, problem.column) == ("ORC127", 4, 28)
    assert problem.hint == "add `a` to the step's `needs`"


def test_the_outputs_of_a_job_may_use_every_step():
    text = "project: p\nsteps: {a: {run: x}, b: {run: x}}\noutputs: {v: ['{{ steps.%s }}']}\n"
    assert parse_spec(text % "b").outputs
    assert codes(text % "c") == ["ORC126"]


def test_the_environment_of_a_spec_is_plain_text():
    assert codes(SHORT + "env: {A: '{{ project }}'}\n") == ["ORC128"]


# --- files ------------------------------------------------------------------------------------


def test_prompt_files_and_files_are_read_once_and_kept(tmp_path):
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts/a.md").write_bytes(b"\xef\xbb\xbfHello {{ project }}\r\n")
    (tmp_path / "x.py").write_bytes(b"\xff\x00")
    (tmp_path / "job.yaml").write_text(
        "project: p\nsteps:\n  a:\n    llm: {prompt: 'file://prompts/a.md'}\n"
        "  b:\n    run: x\n    files: [./x.py, prompts/a.md]\n"
    )
    spec = load_spec(tmp_path / "job.yaml")
    assert spec.steps["a"].llm.prompt == "Hello {{ project }}\r\n"
    assert spec.steps["b"].files == ("x.py", "prompts/a.md")
    assert spec.attachments == {
        "prompts/a.md": b"\xef\xbb\xbfHello {{ project }}\r\n",
        "x.py": b"\xff\x00",
    }


def test_a_fault_in_a_prompt_file_names_the_file(tmp_path):
    (tmp_path / "a.md").write_text("Hello {{ nobody }}")
    text = "project: p\nsteps: {a: {llm: {prompt: 'file://a.md'}}}\n"
    (problem,) = problems(text, folder=str(tmp_path))
    assert problem.message.startswith("a.md: ")
    assert (problem.line, problem.column) == (2, 27)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("../secret", "ORC121"),
        ("/etc/passwd", "ORC121"),
        ("a/../../secret", "ORC121"),
        ("link", "ORC129"),
        ("folder-link/secret", "ORC129"),
        ("nope", "ORC129"),
        ("folder", "ORC129"),
        ("pipe", "ORC129"),
        ("latin", "ORC129"),
        ("", "ORC121"),
    ],
)
def test_a_file_outside_the_folder_or_not_readable_is_refused(tmp_path, path, code):
    home = tmp_path / "home"
    (home / "folder").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (home / "link").symlink_to(tmp_path / "secret")
    (home / "folder-link").symlink_to(tmp_path)
    os.mkfifo(home / "pipe")
    (home / "latin").write_bytes(b"caf\xe9")
    text = f"project: p\nsteps: {{a: {{llm: {{prompt: 'file://{path}'}}}}}}\n"
    (problem,) = problems(text, folder=str(home))
    assert problem.code == code


def test_a_link_that_stays_in_the_folder_is_followed(tmp_path):
    (tmp_path / "a.md").write_text("hi")
    (tmp_path / "b.md").symlink_to("a.md")
    text = "project: p\nsteps: {a: {llm: {prompt: 'file://b.md'}}}\n"
    assert parse_spec(text, folder=str(tmp_path)).attachments == {"b.md": b"hi"}


def test_files_have_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(spec_module, "MAX_ATTACHMENT_BYTES", 3)
    monkeypatch.setattr(spec_module, "MAX_ATTACHMENTS_BYTES", 5)
    for name, content in (("a", "123"), ("b", "12"), ("c", "1"), ("d", "1234")):
        (tmp_path / name).write_text(content)
    text = "project: p\nsteps: {a: {run: x, files: [%s]}}\n"
    assert len(parse_spec(text % "a, b, a", folder=str(tmp_path)).attachments) == 2
    assert codes(text % "a, b, c", folder=str(tmp_path)) == ["ORC129"]
    assert codes(text % "d", folder=str(tmp_path)) == ["ORC129"]


def test_a_spec_can_be_read_again_from_what_was_frozen_with_it(tmp_path):
    (tmp_path / "a.md").write_text("then")
    text = "project: p\nsteps: {a: {llm: {prompt: 'file://a.md'}}}\n"
    first = parse_spec(text, folder=str(tmp_path))
    (tmp_path / "a.md").write_text("now")
    again = parse_spec(text, folder=str(tmp_path), attachments=first.attachments)
    assert again == first
    assert codes(text, folder=str(tmp_path), attachments={}) == ["ORC129"]


def test_a_frozen_built_in_workflow_stays_what_it_was():
    old = b"steps: {only: {llm: {prompt: '{{ task_description }}'}}}"
    spec = parse_spec(SHORT, attachments={"workflows/default.yaml": old})
    assert list(spec.steps) == ["only"]
    assert spec.attachments == {"workflows/default.yaml": old}
    with pytest.raises(UsageError, match="frozen workflow"):
        parse_spec(SHORT, attachments={"workflows/default.yaml": b"steps: ["})


# --- loading ----------------------------------------------------------------------------------


def test_a_loaded_spec_knows_where_it_came_from(tmp_path, monkeypatch):
    raw = b"\xef\xbb\xbfproject: p\r\ntask_description: t\r\n"
    (tmp_path / "job.yaml").write_bytes(raw)
    monkeypatch.chdir(tmp_path)
    source = load_spec("job.yaml").source
    assert source.file == "job.yaml"
    assert source.path == str(tmp_path / "job.yaml")
    assert source.folder == str(tmp_path)
    assert source.text.encode() == raw
    assert source.sha256 == hashlib.sha256(raw).hexdigest()


def test_a_dash_is_stdin(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(SHORT.encode())))
    spec = load_spec("-")
    assert spec.project == "tiny"
    assert spec.source.folder == str(tmp_path)
    assert spec.source.path == ""


@pytest.mark.parametrize("name", ["nope.yaml", ".", "a\0b", "large.yaml"])
def test_a_spec_that_can_not_be_read_is_one_usage_error(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "large.yaml").write_bytes(b"#" * (yamldoc.MAX_BYTES + 1))
    with pytest.raises(UsageError, match="can't read the spec") as caught:
        load_spec(name)
    assert caught.value.exit_code == ExitCode.USAGE
    assert caught.value.hint


def test_a_dict_is_a_spec_too():
    spec = spec_from_dict(
        {"project": "Ü 😀", "steps": {"a": {"llm": {"prompt": "x\x7f\u2028\x1b😀"}, "needs": ()}}}
    )
    assert spec.project == "Ü 😀"
    assert spec.steps["a"].llm.prompt == "x\x7f\u2028\x1b😀"
    assert parse_spec(spec.source.text).steps == spec.steps


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {1: 2},
        {"project": object()},
        {"project": "p", "task_description": float("nan")},
        {"project": "p", "task_description": "\ud800"},
        {"project": "p", "options": {"a": {1, 2}}},
    ],
)
def test_a_dict_that_is_no_json_is_a_spec_error(bad):
    with pytest.raises(SpecError):
        spec_from_dict(bad)


def test_a_dict_that_holds_itself_is_a_spec_error():
    bad = {"project": "p"}
    bad["options"] = bad
    with pytest.raises(SpecError, match="1 problem"):
        spec_from_dict(bad)


def test_json_is_a_spec_too():
    text = json.dumps({"project": "p", "task_description": "😀"}, indent="\t")
    assert parse_spec(text).task_description == "😀"


# --- inputs and overrides ---------------------------------------------------------------------

TYPED = SHORT + (
    "inputs:\n  must: {type: integer}\n  may: {required: false}\n  real: {default: 0.5}\n"
    "  flag: {type: boolean, default: false}\n  many: {type: array, default: []}\n"
)


def test_inputs_have_types_defaults_and_values():
    spec = parse_spec(TYPED)
    assert spec.missing_inputs == ("must",)
    with pytest.raises(UsageError, match="no value for the input must"):
        spec.check_inputs()
    given = spec.with_overrides(inputs={"must": "3", "flag": "true", "many": "[1]", "may": "4"})
    given.check_inputs()
    assert given.values["inputs"] == {
        "must": 3,
        "may": "4",
        "real": 0.5,
        "flag": True,
        "many": [1],
    }
    assert spec.values["inputs"]["must"] is None
    assert given.with_overrides(inputs={"must": 5}).values["inputs"]["flag"] is True


@pytest.mark.parametrize(
    ("name", "value"),
    [("must", "x"), ("must", "1.5"), ("must", True), ("real", "'1'"), ("mst", "1")],
)
def test_a_value_of_another_type_or_name_is_refused(name, value):
    with pytest.raises(UsageError, match=name):
        parse_spec(TYPED).with_overrides(inputs={name: value})


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a: AI", "ORC114"),
        ("a: {type: integr}", "ORC116"),
        ("a: {type: integer, default: x}", "ORC114"),
        ("a-b: {}", "ORC117"),
        ("a: {defalt: 1}", "ORC112"),
    ],
)
def test_an_input_is_declared_as_a_map(text, code):
    assert codes(SHORT + f"inputs: {{{text}}}\n") == [code]


TWO = (
    "project: p\nprovider: ollama\nmodel: m\nbase_url: http://h\nsteps:\n"
    "  a: {llm: {prompt: x}}\n  b: {llm: {prompt: x, provider: openai, model: o}}\n  c: {run: x}\n"
)


def targets(spec):
    return [
        (step.llm.provider, step.llm.model, step.llm.base_url)
        for step in spec.steps.values()
        if step.llm
    ]


def test_another_provider_takes_all_steps_and_leaves_the_old_ones_model_and_server():
    spec = parse_spec(TWO)
    assert targets(spec) == [("ollama", "m", "http://h"), ("openai", "o", "")]
    assert targets(spec.with_overrides(provider="offline")) == [("offline", "echo", "")] * 2
    switched = spec.with_overrides(provider="openai", model="z")
    assert targets(switched) == [("openai", "z", "")] * 2
    assert (switched.provider, switched.model, switched.base_url) == ("openai", "z", "")
    assert switched.steps["c"] == spec.steps["c"]


def test_another_model_takes_the_steps_of_the_specs_provider():
    spec = parse_spec(TWO).with_overrides(model="z")
    assert targets(spec) == [("ollama", "z", "http://h"), ("openai", "o", "")]


def test_a_provider_without_a_model_an_unknown_one_and_an_unknown_model():
    spec = parse_spec(SHORT)
    with pytest.raises(UsageError, match="needs a model") as caught:
        spec.with_overrides(provider="anthropic")
    assert "--model" in caught.value.hint
    with pytest.raises(UsageError, match="no provider"):
        spec.with_overrides(provider="olama", model="x")
    with pytest.raises(ConfigError):
        spec.with_overrides(model="nope")


def test_concurrency_and_timeout_have_limits_from_outside_too():
    spec = parse_spec(SHORT)
    assert spec.with_overrides(concurrency=9, timeout_s=2).timeout_s == 2.0
    for wrong in ({"concurrency": 0}, {"concurrency": 1001}, {"timeout_s": 0.0}):
        with pytest.raises(UsageError):
            spec.with_overrides(**wrong)


# --- all together -----------------------------------------------------------------------------

BAD = """\
project: ../../x
namee: nightly
provider: olama
concurrency: 0
timeout_s: "30"
output_dir: /tmp
env: {PORT: 8080}
inputs:
  topic: {type: strng}
steps:
  fetch:
    run: echo {{ inputs.topic }}
    depends_on: [nothing]
  first:
    needs: [second, fetsh]
    python: tools
  second:
    needs: first
    llm:
      prompt: |
        Look at this:
        {{ steps.fetch.output }} and {{ stepz.first }}
      temperature: 1
    retry: {max_attempts: 0, on: [timout]}
  wait:
    approve: {massage: ok?}
  both: {run: a, llm: {prompt: b, provider: openai}}
  "no name": {llm: {prompt: "{{ 1 + "}, save_as: ../up.md}
"""


def test_all_problems_are_told_at_once(snapshot):
    with pytest.raises(SpecError) as caught:
        parse_spec(BAD, file="job.yaml")
    assert caught.value.render() == snapshot


def test_every_function_that_is_not_there_is_told_with_its_place(tmp_path):
    (tmp_path / "tools.py").write_text("def merge(): pass\n")
    (tmp_path / "bad.py").write_text("def f(:\n")
    text = """\
project: p
steps:
  a: {python: "tools:merg"}
  b: {python: "gone:f"}
  c: {python: "bad:f"}
  good: {python: "tools:merge"}
"""
    with pytest.raises(SpecError) as caught:
        check_functions(parse_spec(text, "job.yaml", str(tmp_path)))
    found = [(p.code, p.line, p.column) for p in caught.value.problems]
    assert found == [("ORC133", line, 15) for line in (3, 4, 5)]
    assert "did you mean 'merge'?" in caught.value.render()
    assert "--> job.yaml:5:15" in caught.value.render()


def test_a_provider_that_is_none_is_told_once():
    (problem,) = problems("project: p\nprovider: openia\nmodel: m\ntask_description: t\n")
    assert (problem.line, problem.hint) == (2, "did you mean `openai`?")


def test_a_guess_at_a_step_looks_at_its_name_alone():
    (problem,) = problems(
        'project: p\nsteps: {k: {run: x}, b: {run: x, env: {A: "{{ steps.zz }}"}}}\n'
    )
    assert problem.hint == "the steps are k, b"


def test_bad_yaml_is_told_with_its_frame(snapshot):
    with pytest.raises(SpecError) as caught:
        parse_spec("project: a: b\n", file="job.yaml")
    assert caught.value.render() == snapshot


def test_every_code_that_is_used_is_in_a_table():
    folder = os.path.dirname(spec_check.__file__)
    used = set()
    for name in [*os.listdir(folder), "../preflight.py"]:
        if name.endswith(".py"):
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                used |= set(re.findall(r'"(ORC\d+)"', file.read()))
    listed = re.findall(r"^\| (ORC\d+)", yamldoc.__doc__ + spec_check.__doc__, re.MULTILINE)
    assert sorted(used) == sorted(listed)


KEYS = (
    "project task_description provider model steps inputs env outputs a needs llm prompt run python"
    " with retry on files save_as type"
)
keys = st.sampled_from(KEYS.split())
texts = st.sampled_from(["a", "b", "offline", "{{ steps.a }}", "{{ x", "../x", "", "m:f", "\0"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=25,
)


@STEADY
@given(st.dictionaries(keys, values, max_size=6))
def test_any_value_is_a_spec_or_a_spec_error(data):
    found = []
    try:
        Graph(parse_spec(json.dumps(data)).decls)
    except SpecError as error:
        error.render().encode()
        found = error.problems
    # What the checks let pass, the structs must take.
    assert all(problem.code != "ORC130" for problem in found)


@STEADY
@given(st.text() | st.text(alphabet=st.sampled_from("ab:- \n[]{}'\"|>&*!#steprunlm\té\ud800")))
def test_any_text_is_a_spec_or_a_spec_error(text):
    try:
        parse_spec(text)
    except SpecError as error:
        error.render()


@STEADY
@given(st.data())
def test_a_good_spec_with_some_characters_changed_is_a_spec_or_a_spec_error(data):
    text = list(CHAIN)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place] = data.draw(st.sampled_from(list("{}[]:-,'\"\n #|x\t&*!%")))
    try:
        parse_spec("".join(text))
    except SpecError as error:
        error.render()


def test_a_frame_shows_no_more_of_a_long_line_than_fits():
    problem = Problem("no", line=1, column=5001, length=9000, code="x")
    frame = SpecError("f", [problem], "a" * 5000 + "!" + "b" * 9000).render().split("\n")
    shown, marks = frame[3], frame[4]
    assert len(shown) < 200
    assert shown[marks.index("^")] == "!"
    assert len(marks) <= len(shown)
