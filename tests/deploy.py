"""Checks the templates in deploy/: YAML, Kubernetes' schemas, the chart as Helm renders it, scripts. Prints the command lines
of the program that they contain, as JSON, for tests/deploy.rs. Needs scripts/requirements-deploy.txt, no cluster and no network."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import helm_python as helm
import kubernetes_validate
import yaml

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
CHART = DEPLOY / "helm/encaje"
# Kinds of operators, whose schemas Kubernetes does not have.
FOREIGN = {"ServiceMonitor", "ScaledObject"}
CLAIM = {"storage": {"claim": "encaje-storage"}}
BUCKET = {
    "storage": {"url": "s3://bucket/encaje"},
    "corpusRoots": ["s3://bucket/corpora", "hf://datasets/owner"],
    "environment": {"AWS_REGION": "eu-west-1", "AWS_ALLOW_HTTP": "true"},
    "environmentSecret": "bucket",
    "serviceAccountName": "encaje",
    "imagePullSecrets": [{"name": "registry"}],
    "workers": {"gpu": {"enabled": True, "runtimeClassName": "nvidia"}},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "coordinators": {"replicas": 3, "nodeSelector": {"disk": "ssd"}},
}
KEDA = {"autoscaling": {"kind": "keda", "labels": {"namespace": "ns", "service": "encaje"}}}
HPA = {"autoscaling": {"kind": "hpa", "labels": {"namespace": "ns"}}}
# Values, and the kinds that they add to those of every release.
RELEASES = [
    (CLAIM, {"PodDisruptionBudget"}),
    (CLAIM | {"podDisruptionBudgets": False}, set()),
    (BUCKET, {"PodDisruptionBudget", "ServiceMonitor"}),
    (BUCKET | KEDA, {"PodDisruptionBudget", "ServiceMonitor", "ScaledObject"}),
    (BUCKET | HPA, {"PodDisruptionBudget", "ServiceMonitor", "HorizontalPodAutoscaler"}),
]
REFUSED = [
    {},
    {"storage": {"claim": "c", "url": "s3://b/p"}},
    {"storage": {"url": "/folder"}},
    CLAIM | {"autoscaling": {"kind": "vpa"}},
    CLAIM | {"autoscalling": {"kind": "hpa"}},
    CLAIM | {"workers": {"cpu": {"replica": 3}}},
    CLAIM | {"coordinators": {"replicas": 0}},
]


def objects(text, source):
    """The objects of a manifest, each valid by the schema of its kind."""
    found = [one for one in yaml.safe_load_all(text) if one]
    for one in found:
        if one["kind"] not in FOREIGN:
            try:
                kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)
            except kubernetes_validate.ValidationError as error:
                where = ".".join(map(str, error.path))
                sys.exit(f"{source}: {one['kind']} {one['metadata']['name']}: {where}: {error.message}")
    return found


def consistent(found):
    """What one object says of another is so."""
    by = {(one["kind"], one["metadata"]["name"]): one for one in found}
    assert len(by) == len(found), "two objects of a name"
    pods = [one["spec"]["template"] for one in found if "template" in one["spec"]]
    labels = [pod["metadata"]["labels"] for pod in pods]

    def matches(selector):
        return sum(selector.items() <= of.items() for of in labels)

    hosts = []
    for (kind, name), one in by.items():
        spec = one["spec"]
        if kind == "Service":
            assert matches(spec["selector"]) == 1, name
        elif kind in ("StatefulSet", "Deployment", "PodDisruptionBudget"):
            assert matches(spec["selector"]["matchLabels"]) == 1, name
        elif kind == "ServiceMonitor":
            [service] = [one for one in found if one["kind"] == "Service"]
            assert spec["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
            assert {port["port"] for port in spec["endpoints"]} <= {port["name"] for port in service["spec"]["ports"]}
        elif kind in ("ScaledObject", "HorizontalPodAutoscaler"):
            scaled = by["Deployment", spec["scaleTargetRef"]["name"]]["spec"]
            assert "replicas" not in scaled, f"{name}: an upgrade would reset what the autoscaler chose"
        if kind == "StatefulSet":
            assert ("Service", spec["serviceName"]) in by
            hosts += [f"https://{name}-{index}.{spec['serviceName']}:7600" for index in range(spec["replicas"])]
    for pod in pods:
        spec = pod["spec"]
        [container] = spec["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
        ports = {port["name"] for port in container.get("ports", [])}
        for key in ("startupProbe", "livenessProbe", "readinessProbe"):
            for action in container.get(key, {}).values():
                assert not isinstance(action, dict) or action["port"] in ports, key
        assert spec["terminationGracePeriodSeconds"] > 10, "a process needs up to 10 seconds to end"
        variables = {one["name"]: one.get("value") for one in container["env"]}
        if "worker" in container["args"]:
            assert variables["ENCAJE_COORDINATOR"].split(",") == hosts, variables
        [secret] = [volume["secret"] for volume in spec["volumes"] if "secret" in volume]
        files = {item["path"] for item in secret["items"]}
        named = {Path(value).name for value in variables.values() if value and value.startswith("/secret/")}
        assert files == named, f"{files} are mounted, {named} are read"


def container_lines(source, containers):
    """What each container runs: its arguments, and its variables, of which a secret's has a value for show."""
    for one in containers:
        variables = one.get("env", one.get("environment", {}))
        if isinstance(variables, list):
            variables = {entry["name"]: entry.get("value", "postgres://encaje@db/encaje") for entry in variables}
        args = one.get("args", one.get("command"))
        yield {"source": source, "args": args, "env": {k: v for k, v in variables.items() if k.startswith("ENCAJE_")}}


def written_lines(path):
    """Commands in text: after the start of a line or of a span of code, `srun` or a path, up to the next operator of a shell."""
    text = path.read_text().replace("\\\n", " ")
    if path.suffix in (".md", ".yaml", ".sbatch", ".service", ".txt"):
        for found in re.finditer(r"(?:^[#\s]*|`|=|srun .*|ENCAJE_\S+ +)(?:/usr/local/bin/)?encaje ([a-z][^`>|;&\n]*)", text, re.M):
            # What a shell would replace is some word; a default is the word.
            line = re.sub(r"\$\{\w+:-([^}]*)\}|\$\([^)]*\)|\$\w+", lambda shell: shell[1] or "word", found[1])
            words = shlex.split(line)
            # In prose, a verb follows the name.
            if any(word.startswith("--") for word in words) or path.suffix in (".service", ".sbatch"):
                yield {"source": path.name, "args": [word for word in words if word != "..."], "env": {}}


def chart_lines():
    report = helm.lint(CHART, values=CLAIM, strict=True)
    problems = [one for one in report["messages"] if one["severity"] > 1]
    assert not problems and not report["errors"], report
    base = {"Service", "StatefulSet", "Deployment"}
    with helm.Chart.load(CHART) as chart:
        for values, more in RELEASES:
            chart.validate_schema(values)
            manifests = chart.render(values, name="encaje", namespace="ns")
            notes = manifests.pop("encaje/templates/NOTES.txt")
            assert "encaje-coordinator-0" in notes and "<no value>" not in "".join(manifests.values()) + notes
            found = objects("\n---\n".join(manifests.values()), f"chart with {values}")
            assert {one["kind"] for one in found} == base | more, [one["kind"] for one in found]
            consistent(found)
            pods = [one["spec"]["template"]["spec"] for one in found if "template" in one["spec"]]
            for pod in pods:
                yield from container_lines("chart", pod["containers"])
        for values in REFUSED:
            try:
                chart.validate_schema(values)
            except helm.HelmValuesError:
                continue
            sys.exit(f"the chart accepts {values}")


def check_scripts():
    script = DEPLOY / "slurm/encaje-worker.sbatch"
    subprocess.run(["bash", "-n", script], check=True)
    subprocess.run([Path(sys.executable).parent / "shellcheck", script], check=True)
    if not shutil.which("systemd-analyze"):
        print("NOT TESTED: the systemd units, for want of systemd-analyze", file=sys.stderr)
        return
    for unit in sorted((DEPLOY / "systemd").glob("*.service")):
        ran = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
        # The program is not installed here. Everything else said of the unit is a fault; what is said of other units is not ours.
        said = [line for line in ran.stderr.splitlines() if unit.stem in line and "is not executable" not in line]
        assert not said, "\n".join(said)


def main():
    for path in sorted(DEPLOY.rglob("*.json")):
        json.loads(path.read_text())
    for path in sorted([*DEPLOY.rglob("*.yaml"), *DEPLOY.rglob("*.yml")]):
        if path.parent.name != "templates":
            list(yaml.safe_load_all(path.read_text()))
    manifest = (DEPLOY / "kubernetes.yaml").read_text()
    found = objects(manifest, "kubernetes.yaml")
    consistent(found)
    check_scripts()
    pods = [one["spec"]["template"]["spec"] for one in found if "template" in one["spec"]]
    lines = [line for pod in pods for line in container_lines("kubernetes.yaml", pod["containers"])]
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"].values()
    lines += container_lines("compose.yaml", [one for one in services if one["image"] == "encaje"])
    lines += chart_lines()
    lines += [line for path in sorted(DEPLOY.rglob("*")) if path.is_file() for line in written_lines(path)]
    print(json.dumps([json.loads(line) for line in sorted({json.dumps(line) for line in lines})]))


if __name__ == "__main__":
    main()
