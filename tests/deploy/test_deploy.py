"""cluster.yaml and deploy/: Ray and KubeRay accept them, and (slow) they do what they say."""

import copy
import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jsonschema
import kubernetes_validate
import pytest
import yaml
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FAKE_HEAD_NODE_TYPE
from ray.autoscaler._private.util import prepare_config, validate_config
from rayhead import Head
from runs import ROOT

LAUNCHED = ("cluster.yaml", "deploy/local.yaml")


def load(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text())


def pinned(package: str) -> str:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    return pins[package]


def commands(config: dict, key: str) -> str:
    return "\n".join(config[key])


@pytest.mark.parametrize("name", LAUNCHED)
def test_ray_accepts_the_configuration(name):
    validate_config(prepare_config(load(name)))


def test_ray_reports_a_misspelt_field():
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minuts"):
        validate_config(prepare_config(load("cluster.yaml") | {"idle_timeout_minuts": 5}))


@pytest.mark.parametrize("name", LAUNCHED)
def test_nodes_install_the_versions_of_constraints_txt(name):
    config = load(name)
    setup = commands(config, "setup_commands")
    assert config["file_mounts"]["~/faceae/constraints.txt"] == "constraints.txt"
    assert config["file_mounts"]["~/faceae/pyproject.toml"] == "pyproject.toml"
    assert "--constraint ~/faceae/constraints.txt --requirements ~/faceae/pyproject.toml" in setup
    assert "uv venv --python 3.11 " in setup
    assert "==" not in setup, "versions belong in constraints.txt only"
    assert pinned("ray")
    assert pinned("torch")


@pytest.mark.parametrize("name", LAUNCHED)
def test_a_token_is_required_and_the_dashboard_is_local(name):
    config = load(name)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert "RAY_AUTH_MODE=token" in commands(config, key)
    assert "--dashboard-host=127.0.0.1" in commands(config, "head_start_ray_commands")


@pytest.mark.parametrize("name", LAUNCHED)
def test_a_stopped_job_has_time_for_a_checkpoint(name):
    assert "RAY_JOB_STOP_WAIT_TIME_S=60" in commands(load(name), "head_start_ray_commands")


def test_aws_has_a_head_without_cpus_and_spot_gpus_from_zero():
    config = load("cluster.yaml")
    head, gpu = (config["available_node_types"][name] for name in (config["head_node_type"], "gpu"))
    assert head["resources"] == {"CPU": 0}
    assert "--num-cpus=0" in commands(config, "head_start_ray_commands")
    assert "InstanceMarketOptions" not in head["node_config"]
    assert gpu["min_workers"] == 0
    assert gpu["resources"]["GPU"] == 1
    assert gpu["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    for node in (head, gpu):
        assert set(node["node_config"]["IamInstanceProfile"]) == {"Name"}
        assert node["node_config"]["MetadataOptions"] == {"HttpTokens": "required"}


@pytest.mark.parametrize("name", LAUNCHED)
def test_mounted_files_exist(name):
    for source in load(name)["file_mounts"].values():
        assert source.startswith("~") or (ROOT / source).is_file(), source


def validate_rayjob(job: dict) -> None:
    """Validates the job against KubeRay's schema, and its pods against Kubernetes'."""
    jsonschema.validate(job, json.loads((ROOT / "tests/deploy/schemas/rayjob.json").read_text()))
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        template = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {}, "template": group["template"]}
        kubernetes_validate.validate(template, "1.34", strict=True)


def test_kuberay_accepts_the_job():
    job = load("deploy/rayjob.yaml")
    validate_rayjob(job)
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == pinned("ray")
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert job["spec"]["shutdownAfterJobFinishes"]
    assert f"FROM rayproject/ray:{pinned('ray')}-py311-gpu\n" in (ROOT / "deploy/Dockerfile").read_text()


@pytest.mark.parametrize("path", ["spec", "spec.rayClusterSpec", "spec.rayClusterSpec.authOptions", "pod", "container"])
def test_a_misspelt_field_in_the_job_is_found(path):
    job = copy.deepcopy(load("deploy/rayjob.yaml"))
    pod = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]
    found = {"pod": pod, "container": pod["containers"][0]}.get(path, job)
    for key in path.split(".") if found is job else ():
        found = found[key]
    found["misspelt"] = "x"
    with pytest.raises(jsonschema.ValidationError, match="misspelt"):
        validate_rayjob(job)


@pytest.fixture
def head():
    with Head() as head:
        yield head


@pytest.mark.slow
def test_a_job_starts_a_gpu_node_of_cluster_yaml_and_the_node_goes_after_the_job(head, tmp_path):
    """With Ray's autoscaler and the node types of cluster.yaml; the machines are processes here, not AWS instances."""
    config = prepare_config(load("cluster.yaml"))
    types = config["available_node_types"]
    types[FAKE_HEAD_NODE_TYPE] = types.pop(config["head_node_type"]) | {"max_workers": 0}
    config |= {"head_node_type": FAKE_HEAD_NODE_TYPE, "idle_timeout_minutes": 0.1, "file_mounts": {}}
    config["provider"] = {
        "type": "external",
        "module": "machines.Machines",
        "folder": str(head.folder),
        "head_node_id": FAKE_HEAD_NODE_ID,
        "gcs_address": f"127.0.0.1:{head.gcs}",
        "disable_node_updaters": True,
        "launch_multiple": True,
    }
    (head.folder / "fake.yaml").write_text(yaml.safe_dump(config))
    fake = {"RAY_FAKE_CLUSTER": "1", "RAY_enable_autoscaler_v2": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    fake["PYTHONPATH"] = str(ROOT / "tests" / "helpers")  # for the autoscaler, which imports the module `machines`
    identity = {"RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID}
    head.start_head(f"--autoscaling-config={head.folder / 'fake.yaml'}", **fake, **identity)
    assert not any(node["resources_total"].get("CPU") for node in head.nodes("ALIVE"))

    # The fake machine claims a GPU that does not exist.
    data = ["--data.source", "synthetic:200", "--data.image-size", "32", "--scale.gpu", "off", "--scale.workers", "1"]
    run = ["--train.epochs", "1", "--run.storage", str(tmp_path), "--run.name", "scaled"]
    head.run("ray", "job", "submit", "--working-dir", str(ROOT), "--", "python", "jobs/train.py", *data, *run)
    assert json.loads((tmp_path / "scaled" / "summary.json").read_text())
    head.wait_for(lambda: [node["node_id"] for node in head.nodes("ALIVE")] == [FAKE_HEAD_NODE_ID])
    gone = head.nodes("DEAD")  # several, if this machine is so slow that one was idle before the job used it
    assert gone
    for node in gone:
        assert {name: node["resources_total"][name] for name in ("CPU", "GPU")} == types["gpu"]["resources"]


class Metadata(BaseHTTPRequestHandler):
    """EC2's metadata service, version 2: PUT returns a token; from the third poll on there is a spot notice."""

    polls = 0
    ends = datetime.now(UTC) + timedelta(minutes=10)

    def do_PUT(self):
        allowed = self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self.answer(200 if allowed else 400, "a-token")

    def do_GET(self):
        if self.headers["X-aws-ec2-metadata-token"] != "a-token":
            return self.answer(401)
        Metadata.polls += self.path == "/latest/meta-data/spot/instance-action"
        notice = json.dumps({"action": "terminate", "time": f"{self.ends:%Y-%m-%dT%H:%M:%SZ}"})
        self.answer(*(200, notice) if Metadata.polls > 2 else (404,))

    def answer(self, status, text=""):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


@pytest.mark.slow
def test_a_spot_notice_drains_the_node_that_it_concerns(head):
    head.start_head()
    address = "127.0.0.2"
    head.start(f"--address=127.0.0.1:{head.gcs}", f"--node-ip-address={address}", "--num-cpus=1")
    head.wait_for(lambda: len(head.nodes("ALIVE")) == 2)
    (worker,) = (node["node_id"] for node in head.nodes("ALIVE") if node["node_ip"] == address)
    connect = f"import ray; ray.init('127.0.0.1:{head.gcs}', log_to_driver=False, namespace='test');"
    actor = "ray.remote(type('Busy', (), {})).options(name='busy', lifetime='detached', num_cpus=1).remote()"
    head.run("python", "-c", f"{connect} ray.get({actor}.__ray_ready__.remote())")  # an idle node would leave at once
    with ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as metadata:
        threading.Thread(target=metadata.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{metadata.server_port}"
        settings = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": endpoint, "SPOT_NOTICE_INTERVAL_S": "0.2"}
        output = head.run("bash", "deploy/spot-notice.sh", address, **settings)
        metadata.shutdown()
    assert Metadata.polls == 3
    assert "Ray knows" in output
    draining = "print(ray._private.state.state.get_draining_nodes())"
    assert eval(head.run("python", "-c", f"{connect} {draining}")) == {
        worker: pytest.approx(Metadata.ends.timestamp() * 1000, abs=5000)
    }
