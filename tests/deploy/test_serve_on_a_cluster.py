"""`faceae serve` on a cluster: its replicas are where there is room, and survive the loss of a node."""

import io
import signal

import numpy as np
import pytest
from PIL import Image
from processes import kill_session
from rayhead import Head
from service import Running, clients, encoded, replicas, scratched, until

import faceae


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_service_survives_the_loss_of_a_node(tmp_path):
    picture, hole = scratched()
    files = {"image": encoded(picture), "mask": encoded(hole)}
    with Head() as head:
        head.start_head()  # with no CPU: it has only the service's own process, and the proxy
        for number in (2, 3):
            head.start(f"--address=127.0.0.1:{head.gcs}", f"--node-ip-address=127.0.0.{number}", "--num-cpus=2")
            head.wait_for(lambda nodes=number: len(head.nodes("ALIVE")) == nodes)  # two at once fail to start
        cluster = head.environment | {"RAY_ADDRESS": f"127.0.0.1:{head.gcs}"}
        running = Running(tmp_path, "--replicas", "2", environment=cluster)
        try:
            running.wait()
            until(lambda: [len(replicas(node.pid)) for node in head.started[1:]] == [1, 1])
            with clients(3, lambda: running.post("restore", **files)) as answers:
                until(lambda: len(answers) >= 10)
                kill_session(head.started[2].pid)
                killed_at = len(answers)
                until(lambda: len(answers) >= killed_at + 30)
            restored = [answer for answer in answers if answer.status_code == 200]
            assert len(restored) >= len(answers) - 3
            assert {answer.status_code for answer in answers} <= {200, 503}
            made = np.asarray(Image.open(io.BytesIO(restored[-1].content)))
            assert np.abs(made.astype(int) - faceae.load()(picture, hole)).max() <= 1
            running.process.send_signal(signal.SIGINT)
            said = running.process.communicate(timeout=60)[0]
            assert running.process.returncode == 130, said
        finally:
            running.process.kill()
            kill_session(running.process.pid)
        head.started[2].wait()
        del head.started[2]
