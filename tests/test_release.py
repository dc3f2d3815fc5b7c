"""A stranger can install a release and work on it: what tools/check_release.py asks for, and what .github/ says."""

import ast
import re
import runpy
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PYPROJECT = (ROOT / "pyproject.toml").read_text()
PROJECT = tomllib.loads(PYPROJECT)
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
# Names of distributions by the names of their modules, if these differ.
DISTRIBUTIONS = {"PIL": "pillow", "orbax": "orbax-checkpoint"}
# Modules that a user has who passes objects of theirs: data frames, data sets of Minari, processes of Gymnasium.
OPTIONAL = {"cloudpickle", "minari", "pandas"}


@pytest.fixture(scope="module")
def tool():
    return runpy.run_path(str(ROOT / "tools" / "check_release.py"))


def test_lowest_versions(tool):
    text = '[project]\ndependencies = ["numpy>=2.1", "scipy>=1.14.1,<2", "jax[cpu] ~= 0.8.1"]'
    assert tool["lowest"](text) == ["numpy==2.1", "scipy==1.14.1", "jax==0.8.1"]
    assert len(tool["lowest"](PYPROJECT)) == len(PROJECT["project"]["dependencies"])


@pytest.mark.parametrize("requirement", ["jax", "jax<2", "jax>=0.8; python_version < '3.12'"])
def test_dependency_without_one_lowest_version_is_refused(tool, requirement):
    with pytest.raises(tool["CheckError"], match=r"jax.*must have one lowest version"):
        tool["lowest"](f'[project]\ndependencies = ["{requirement}"]')


def test_constraints_name_every_dependency(tool):
    constraints = (ROOT / "constraints.txt").read_text()
    assert tool["unpinned"](PYPROJECT, constraints) == []
    assert tool["unpinned"](PYPROJECT, constraints.replace("opt-einsum==", "#")) == ["opt_einsum"]


ABOUT = [f"undelude-0.1.0.dist-info/{x}" for x in ("METADATA", "RECORD", "entry_points.txt", "licenses/LICENSE")]


def test_wheel_holds_the_package_and_nothing_else(tool):
    package = tool["package_files"](ROOT)
    assert {"undelude/py.typed", "undelude/_report/template.html.j2", "undelude/_paper/results/when.json"} <= package
    assert tool["wheel_problems"]([*package, *ABOUT], package) == []


@pytest.mark.parametrize(
    "name", ["undelude/_report/template.html.j2", "undelude/_inspector/page/app.js", "undelude/_report/style.css"]
)
def test_wheel_without_a_file_is_refused(tool, name):
    package = tool["package_files"](ROOT)
    assert tool["wheel_problems"]([*package - {name}, *ABOUT], package) == [f"the wheel lacks {name}"]


def test_wheel_without_marker_of_types_or_licence_is_refused(tool):
    """Also if the source tree lacks the marker."""
    package = tool["package_files"](ROOT) - {"undelude/py.typed"}
    assert tool["wheel_problems"]([*package, *ABOUT], package) == ["the wheel has no undelude/py.typed"]
    assert "licenses/LICENSE" in str(tool["wheel_problems"]([*package, *ABOUT[:3]], package))


@pytest.mark.parametrize("name", ["tests/test_cli.py", "docs/figures/arm.gif"])
def test_wheel_with_tests_or_pictures_is_refused(tool, name):
    package = tool["package_files"](ROOT)
    (problem,) = tool["wheel_problems"]([*package, *ABOUT, name], package)
    assert name in problem


def test_sdist_without_sources_is_refused(tool):
    package = {"undelude/py.typed"}
    names = {"src/undelude/py.typed", "tests/conftest.py", "docs/index.md", "examples/delusion.py", *tool["SOURCES"]}
    assert tool["sdist_problems"]([f"undelude-1/{x}" for x in names], package) == []
    for name in names:
        problems = tool["sdist_problems"]([f"undelude-1/{x}" for x in names - {name}], package)
        assert problems == [f"the source distribution lacks {name}"]


def description():
    """Return the description on an index, by the fragments and substitutions of pyproject.toml."""
    hook = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    readme, more = hook["fragments"]
    first, found, _ = (ROOT / readme["path"]).read_text().partition(readme["end-before"])
    assert found
    text = first + more["text"]
    for rule in hook["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    return text


def test_description_on_an_index_has_no_dead_links(tool):
    assert tool["description_problems"]((ROOT / "README.md").read_text())
    text = description()
    assert tool["description_problems"](text) == []
    assert "*Picture: Two robot arms look for the same hidden target." in text
    assert "The paper map says which" in " ".join(text.split())
    assert "[Ortega et al. (2021)](https://arxiv.org/abs/2110.10819)" in text


def test_development_version_promises_no_release(tool):
    readme, citation = {"README.md": "There is no release yet."}, "x: y\nversion: 1.0.dev0\nz: 1"
    assert tool["release_problems"]("1.0.dev0", readme, "", citation) == []
    citation = (ROOT / "CITATION.cff").read_text()
    assert tool["release_problems"](PROJECT["project"]["version"], readme, "", citation) == []


@pytest.mark.parametrize("version", ["1.0", "1.0rc1"])
def test_release_has_its_version_in_every_file(tool, version):
    changelog, citation = f"# Changelog\n\n## {version} (2030-01-01)\n", f"x: y\nversion: {version}\nz: 1"
    assert tool["release_problems"](version, {"README.md": ""}, changelog, citation) == []
    pages = {"README.md": "There is no release yet.", "docs/a.md": "", "docs/b.md": "There is no release."}
    problems = tool["release_problems"](version, pages, "# Changelog\n", "x: y\nversion: 0.9\n")
    assert [x.split()[0] for x in problems] == ["CITATION.cff", "README.md", "docs/b.md", "CHANGELOG.md"]


def test_skipped_step_has_not_passed(tool):
    line, status = tool["verdict"](tool["STEPS"])
    assert (line, status) == ("The release passed every check.", 0)
    for step in tool["STEPS"]:
        line, status = tool["verdict"]([x for x in tool["STEPS"] if x != step])
        assert status
        assert step in line
        assert "passed" not in line


def test_imported_packages_are_declared():
    """No package is there only because another one brings it."""
    groups = [PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values()]
    declared = {re.match(r"[\w-]+", x)[0].lower().replace("_", "-") for group in groups for x in group}
    imported = {}
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [x.name for x in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            imported |= {x.split(".")[0]: file for x in names}
    ours = imported.keys() - sys.stdlib_module_names - OPTIONAL - {"undelude"}
    missing = {x: imported[x] for x in ours if DISTRIBUTIONS.get(x, x).lower().replace("_", "-") not in declared}
    assert not missing


def test_workflows_exist():
    assert {file.stem for file in WORKFLOWS} == {"docs", "publish", "tests"}


@pytest.fixture(params=WORKFLOWS, ids=lambda file: file.stem)
def workflow(request):
    return request.param.read_text()


def jobs(workflow):
    return yaml.safe_load(workflow)["jobs"]


def steps(workflow):
    return [step for job in jobs(workflow).values() for step in job["steps"]]


def test_workflows_run_targets_of_the_makefile(workflow):
    targets = {
        x for line in re.findall(r"^([\w -]+):(?!=)", (ROOT / "Makefile").read_text(), re.M) for x in line.split()
    }
    text = re.sub(r'"?\$\{\{ matrix\.target \}\}"?', "", "\n".join(step.get("run", "") for step in steps(workflow)))
    named = [x for line in re.findall(r"\bmake (.+)", text) for x in line.split() if "=" not in x]
    matrices = [job.get("strategy", {}).get("matrix", {}) for job in jobs(workflow).values()]
    named += [target for matrix in matrices for target in matrix.get("target", [])]
    assert named
    assert {*named} <= targets


def test_workflows_pin_versions(workflow):
    """Actions of the host by their major version, and one of somebody else by its commit."""
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert used
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+|[\w-]+/[\w-]+@[0-9a-f]{40}", x) for x in used), used


def test_workflows_have_the_least_permissions(workflow):
    """They read; a job that may do more runs published actions alone, on what another job built."""
    content = yaml.safe_load(workflow)
    assert content["permissions"] == {"contents": "read"}
    assert content["concurrency"]["group"]
    for name, job in content["jobs"].items():
        assert job["timeout-minutes"] <= 60, name
        if "permissions" in job:
            assert job["permissions"].keys() <= {"id-token", "pages"}
            assert not any("run" in step or "checkout" in step["uses"] for step in job["steps"]), name


def test_workflow_tests_every_python_of_the_classifiers(tool):
    matrix = jobs((ROOT / ".github/workflows/tests.yml").read_text())["test"]["strategy"]["matrix"]
    assert matrix["python"] == tool["pythons"](PYPROJECT)
    assert "Operating System :: POSIX :: Linux" in PROJECT["project"]["classifiers"]


def test_publish_uploads_only_what_was_checked():
    content = yaml.safe_load((ROOT / ".github/workflows/publish.yml").read_text())
    assert content["jobs"]["upload"]["needs"] == ["test", "check"]
    assert [step["run"] for step in content["jobs"]["test"]["steps"] if "run" in step] == ["make lint test"]
    checked = [step.get("run", "") for step in content["jobs"]["check"]["steps"]]
    assert "make release-check OUT=dist" in checked
    assert content["jobs"]["upload"]["permissions"] == {"id-token": "write"}


# Names of registries, in pieces: no file of ours has one.
REGISTRIES = re.compile("|".join(["py" + r"pi\.(org|io)", "python" + "hosted", "npm" + r"js\."]))


def test_no_registry_is_named():
    files = [x for x in (ROOT / ".github").rglob("*") if x.is_file()]
    files += [ROOT / x for x in ("pyproject.toml", "constraints.txt", "Makefile", "README.md", "CONTRIBUTING.md")]
    files += (ROOT / "tools").glob("*.py")
    assert [x.name for x in files if REGISTRIES.search(x.read_text())] == []


@pytest.mark.parametrize("name", ["bug", "question"])
def test_forms_ask_for_what_is_needed(name):
    form = yaml.safe_load((ROOT / f".github/ISSUE_TEMPLATE/{name}.yml").read_text())
    assert form.keys() == {"name", "description", "labels", "body"}
    for part in form["body"]:
        assert part["type"] == "textarea"
        assert part["validations"] == {"required": True}
        for page in re.findall(r"docs/[\w-]+\.md", part["attributes"]["description"]):
            assert (ROOT / page).is_file()
