"""A Python client, generated from the contract, against a started server: load, execute, follow, fail, health, reflection."""

import pathlib
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status
from google.rpc import error_details_pb2
from mentat.runtime.v1 import runtime_pb2, runtime_pb2_grpc

address, folder = sys.argv[1], pathlib.Path(sys.argv[2])
channel = grpc.insecure_channel(address)
runtime = runtime_pb2_grpc.WasmRuntimeStub(channel)

for name in ["echo", "numbers"]:
    loaded = runtime.LoadAgent(
        runtime_pb2.LoadAgentRequest(
            agent_id=f"py.{name}",
            manifest=(folder / f"{name}.yaml").read_text(),
            wasm_bytes=(folder / f"{name}.wasm").read_bytes(),
        )
    )
    assert loaded.module_hash.startswith("sha256:"), loaded

answer = runtime.ExecuteAgent(runtime_pb2.ExecuteAgentRequest(agent_id="py.echo", input=b"from Python"))
assert answer.output == b"from Python" and answer.exit_code == 0, answer
assert answer.metrics.fuel_consumed > 0 and answer.metrics.peak_memory_bytes > 0, answer

# It goes on by itself; whoever has its id is told all of it, from any event on, while it runs and afterwards.
started = runtime.ExecuteAgent(runtime_pb2.ExecuteAgentRequest(agent_id="py.numbers", input=b"100", detach=True))
for begin in [0, 40, 102]:
    request = runtime_pb2.StreamEventsRequest(stream_id=started.execution_id, from_sequence=begin)
    events = list(runtime.StreamEvents(request, timeout=60))
    assert [event.sequence for event in events] == list(range(begin, 103)), events
    assert events[-1].response.output == b"00000100\n", events[-1]
    lines = [event.stream_data.chunk for event in events if event.HasField("stream_data")]
    assert lines == [b"%08d\n" % number for number in range(max(begin, 1), 101)], lines
    assert (begin == 0) == any(event.HasField("stream_start") for event in events)

try:
    runtime.ExecuteAgent(runtime_pb2.ExecuteAgentRequest(agent_id="no.such"))
    raise AssertionError("an agent that is not there was executed")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.NOT_FOUND, error
    info = error_details_pb2.ErrorInfo()
    assert rpc_status.from_call(error).details[0].Unpack(info)
    assert (info.reason, info.domain) == ("AGENT_NOT_FOUND", "mentat.runtime"), info

health = health_pb2_grpc.HealthStub(channel)
for service in ["", "mentat.runtime.v1.WasmRuntime"]:
    status = health.Check(health_pb2.HealthCheckRequest(service=service)).status
    assert status == health_pb2.HealthCheckResponse.SERVING, (service, status)

services = ProtoReflectionDescriptorDatabase(channel).get_services()
assert "mentat.runtime.v1.WasmRuntime" in services, services

print("all is well")
