#!/bin/sh
# Writes protos/rtfleet_protos from protos/agent.proto.
# The generator is older than what people run, on purpose: newer gRPC and protobuf load code that older ones
# generated, never the reverse. It needs protobuf 5, so it lives in an environment of its own.
set -eu
cd "$(dirname "$0")/.."
venv=.venv/protos
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -c 'import grpc_tools' 2>/dev/null || "$venv/bin/pip" install --quiet 'grpcio-tools==1.71.2' 'setuptools<81'
"$venv/bin/python" -W ignore -m grpc_tools.protoc -I rtfleet_protos=protos --python_out=protos --pyi_out=protos \
  --grpc_python_out=protos protos/agent.proto
