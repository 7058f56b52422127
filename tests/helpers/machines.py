"""Machines for Ray's autoscaler to start: processes here, each with a folder of its own as on a machine of its own."""

import tempfile
from unittest import mock

from ray._private.parameter import RayParams
from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider


class Machines(FakeMultiNodeProvider):
    """Ray's own fake provider, whose machines would share the head's folder.

    There each raylet unpacks a job's `--working-dir` to the same place, after it has deleted what lies there
    (`download_and_unpack_package`): the driver's working directory is gone. MKL then refuses to be loaded, and the job
    ends with "Intel oneMKL FATAL ERROR: Cannot load libtorch_cpu.so".
    """

    def _create_node_with_resources_and_labels(self, *arguments):
        folder = tempfile.mkdtemp(dir=self.provider_config["folder"])

        class Params(RayParams):
            def __init__(self, **options):
                super().__init__(temp_dir=folder, **options)

        with mock.patch("ray._private.parameter.RayParams", Params):
            super()._create_node_with_resources_and_labels(*arguments)
