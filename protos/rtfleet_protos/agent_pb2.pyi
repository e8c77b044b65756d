from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LaunchKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LAUNCH_KIND_UNSPECIFIED: _ClassVar[LaunchKind]
    LATENCY: _ClassVar[LaunchKind]
    PARITY: _ClassVar[LaunchKind]
    PROFILE: _ClassVar[LaunchKind]

class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PHASE_UNSPECIFIED: _ClassVar[Phase]
    WARMUP: _ClassVar[Phase]
    PACED: _ClassVar[Phase]
    BURST: _ClassVar[Phase]

class FailureKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FAILURE_KIND_UNSPECIFIED: _ClassVar[FailureKind]
    BAD_MODEL: _ClassVar[FailureKind]
    UNSUPPORTED_OP: _ClassVar[FailureKind]
    BAD_OUTPUT: _ClassVar[FailureKind]
    NO_ACCELERATOR: _ClassVar[FailureKind]
    OUT_OF_MEMORY: _ClassVar[FailureKind]
    NO_DISK: _ClassVar[FailureKind]
    KILLED: _ClassVar[FailureKind]
    TIMEOUT: _ClassVar[FailureKind]
    LEASE_LOST: _ClassVar[FailureKind]
    INTERNAL: _ClassVar[FailureKind]
LAUNCH_KIND_UNSPECIFIED: LaunchKind
LATENCY: LaunchKind
PARITY: LaunchKind
PROFILE: LaunchKind
PHASE_UNSPECIFIED: Phase
WARMUP: Phase
PACED: Phase
BURST: Phase
FAILURE_KIND_UNSPECIFIED: FailureKind
BAD_MODEL: FailureKind
UNSUPPORTED_OP: FailureKind
BAD_OUTPUT: FailureKind
NO_ACCELERATOR: FailureKind
OUT_OF_MEMORY: FailureKind
NO_DISK: FailureKind
KILLED: FailureKind
TIMEOUT: FailureKind
LEASE_LOST: FailureKind
INTERNAL: FailureKind

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RuntimeFacts(_message.Message):
    __slots__ = ("name", "version", "library_sha256", "accelerators", "unavailable", "error")
    class UnavailableEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LIBRARY_SHA256_FIELD_NUMBER: _ClassVar[int]
    ACCELERATORS_FIELD_NUMBER: _ClassVar[int]
    UNAVAILABLE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    library_sha256: str
    accelerators: _containers.RepeatedScalarFieldContainer[str]
    unavailable: _containers.ScalarMap[str, str]
    error: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., library_sha256: _Optional[str] = ..., accelerators: _Optional[_Iterable[str]] = ..., unavailable: _Optional[_Mapping[str, str]] = ..., error: _Optional[str] = ...) -> None: ...

class Description(_message.Message):
    __slots__ = ("agent_version", "protocol_version", "oldest_protocol_served", "identity", "boot_id", "os", "os_version", "model", "soc", "arch", "cores", "memory_bytes", "runtimes", "sensors", "missing_sensors", "lease", "store_free_bytes", "python_version", "core_info", "provisos")
    class MissingSensorsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    OLDEST_PROTOCOL_SERVED_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    OS_FIELD_NUMBER: _ClassVar[int]
    OS_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SOC_FIELD_NUMBER: _ClassVar[int]
    ARCH_FIELD_NUMBER: _ClassVar[int]
    CORES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    RUNTIMES_FIELD_NUMBER: _ClassVar[int]
    SENSORS_FIELD_NUMBER: _ClassVar[int]
    MISSING_SENSORS_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    STORE_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    PYTHON_VERSION_FIELD_NUMBER: _ClassVar[int]
    CORE_INFO_FIELD_NUMBER: _ClassVar[int]
    PROVISOS_FIELD_NUMBER: _ClassVar[int]
    agent_version: str
    protocol_version: int
    oldest_protocol_served: int
    identity: str
    boot_id: str
    os: str
    os_version: str
    model: str
    soc: str
    arch: str
    cores: int
    memory_bytes: int
    runtimes: _containers.RepeatedCompositeFieldContainer[RuntimeFacts]
    sensors: _containers.RepeatedScalarFieldContainer[str]
    missing_sensors: _containers.ScalarMap[str, str]
    lease: LeaseState
    store_free_bytes: int
    python_version: str
    core_info: _containers.RepeatedCompositeFieldContainer[CoreInfo]
    provisos: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, agent_version: _Optional[str] = ..., protocol_version: _Optional[int] = ..., oldest_protocol_served: _Optional[int] = ..., identity: _Optional[str] = ..., boot_id: _Optional[str] = ..., os: _Optional[str] = ..., os_version: _Optional[str] = ..., model: _Optional[str] = ..., soc: _Optional[str] = ..., arch: _Optional[str] = ..., cores: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., runtimes: _Optional[_Iterable[_Union[RuntimeFacts, _Mapping]]] = ..., sensors: _Optional[_Iterable[str]] = ..., missing_sensors: _Optional[_Mapping[str, str]] = ..., lease: _Optional[_Union[LeaseState, _Mapping]] = ..., store_free_bytes: _Optional[int] = ..., python_version: _Optional[str] = ..., core_info: _Optional[_Iterable[_Union[CoreInfo, _Mapping]]] = ..., provisos: _Optional[_Iterable[str]] = ...) -> None: ...

class CoreInfo(_message.Message):
    __slots__ = ("index", "capacity", "max_frequency_khz")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    MAX_FREQUENCY_KHZ_FIELD_NUMBER: _ClassVar[int]
    index: int
    capacity: int
    max_frequency_khz: int
    def __init__(self, index: _Optional[int] = ..., capacity: _Optional[int] = ..., max_frequency_khz: _Optional[int] = ...) -> None: ...

class LeaseState(_message.Message):
    __slots__ = ("holder", "expires_in_s", "since_unix_s", "reason")
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_IN_S_FIELD_NUMBER: _ClassVar[int]
    SINCE_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    holder: str
    expires_in_s: float
    since_unix_s: float
    reason: str
    def __init__(self, holder: _Optional[str] = ..., expires_in_s: _Optional[float] = ..., since_unix_s: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...

class AcquireLeaseRequest(_message.Message):
    __slots__ = ("lease_id", "holder", "lasts_s", "reason")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    LASTS_S_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    holder: str
    lasts_s: float
    reason: str
    def __init__(self, lease_id: _Optional[str] = ..., holder: _Optional[str] = ..., lasts_s: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...

class RenewLeaseRequest(_message.Message):
    __slots__ = ("lease_id",)
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    def __init__(self, lease_id: _Optional[str] = ...) -> None: ...

class ReleaseLeaseRequest(_message.Message):
    __slots__ = ("lease_id", "force")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    force: bool
    def __init__(self, lease_id: _Optional[str] = ..., force: bool = ...) -> None: ...

class ReleaseLeaseReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Lease(_message.Message):
    __slots__ = ("expires_in_s",)
    EXPIRES_IN_S_FIELD_NUMBER: _ClassVar[int]
    expires_in_s: float
    def __init__(self, expires_in_s: _Optional[float] = ...) -> None: ...

class HaveRequest(_message.Message):
    __slots__ = ("lease_id", "sha256")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    sha256: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, lease_id: _Optional[str] = ..., sha256: _Optional[_Iterable[str]] = ...) -> None: ...

class HaveReply(_message.Message):
    __slots__ = ("missing",)
    MISSING_FIELD_NUMBER: _ClassVar[int]
    missing: _containers.RepeatedCompositeFieldContainer[MissingFile]
    def __init__(self, missing: _Optional[_Iterable[_Union[MissingFile, _Mapping]]] = ...) -> None: ...

class MissingFile(_message.Message):
    __slots__ = ("sha256", "held_bytes")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    HELD_BYTES_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    held_bytes: int
    def __init__(self, sha256: _Optional[str] = ..., held_bytes: _Optional[int] = ...) -> None: ...

class PushRequest(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: PushHeader
    chunk: bytes
    def __init__(self, header: _Optional[_Union[PushHeader, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class PushHeader(_message.Message):
    __slots__ = ("lease_id", "sha256", "size_bytes", "offset_bytes")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    sha256: str
    size_bytes: int
    offset_bytes: int
    def __init__(self, lease_id: _Optional[str] = ..., sha256: _Optional[str] = ..., size_bytes: _Optional[int] = ..., offset_bytes: _Optional[int] = ...) -> None: ...

class PushReply(_message.Message):
    __slots__ = ("held_bytes", "complete")
    HELD_BYTES_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    held_bytes: int
    complete: bool
    def __init__(self, held_bytes: _Optional[int] = ..., complete: bool = ...) -> None: ...

class File(_message.Message):
    __slots__ = ("path", "sha256", "size_bytes")
    PATH_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    path: str
    sha256: str
    size_bytes: int
    def __init__(self, path: _Optional[str] = ..., sha256: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class Shape(_message.Message):
    __slots__ = ("input", "dims")
    INPUT_FIELD_NUMBER: _ClassVar[int]
    DIMS_FIELD_NUMBER: _ClassVar[int]
    input: str
    dims: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, input: _Optional[str] = ..., dims: _Optional[_Iterable[int]] = ...) -> None: ...

class StatePair(_message.Message):
    __slots__ = ("input", "output", "initial_sha256")
    INPUT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    INITIAL_SHA256_FIELD_NUMBER: _ClassVar[int]
    input: str
    output: str
    initial_sha256: str
    def __init__(self, input: _Optional[str] = ..., output: _Optional[str] = ..., initial_sha256: _Optional[str] = ...) -> None: ...

class Graph(_message.Message):
    __slots__ = ("name", "files", "shapes", "states")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    SHAPES_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    name: str
    files: _containers.RepeatedCompositeFieldContainer[File]
    shapes: _containers.RepeatedCompositeFieldContainer[Shape]
    states: _containers.RepeatedCompositeFieldContainer[StatePair]
    def __init__(self, name: _Optional[str] = ..., files: _Optional[_Iterable[_Union[File, _Mapping]]] = ..., shapes: _Optional[_Iterable[_Union[Shape, _Mapping]]] = ..., states: _Optional[_Iterable[_Union[StatePair, _Mapping]]] = ...) -> None: ...

class Tensor(_message.Message):
    __slots__ = ("name", "dtype", "dims", "scale", "zero_point")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    DIMS_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    ZERO_POINT_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: str
    dims: _containers.RepeatedScalarFieldContainer[int]
    scale: float
    zero_point: int
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[str] = ..., dims: _Optional[_Iterable[int]] = ..., scale: _Optional[float] = ..., zero_point: _Optional[int] = ...) -> None: ...

class Options(_message.Message):
    __slots__ = ("accelerator", "threads", "cpus", "allow_fallback", "optimize")
    ACCELERATOR_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    CPUS_FIELD_NUMBER: _ClassVar[int]
    ALLOW_FALLBACK_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZE_FIELD_NUMBER: _ClassVar[int]
    accelerator: str
    threads: int
    cpus: _containers.RepeatedScalarFieldContainer[int]
    allow_fallback: bool
    optimize: bool
    def __init__(self, accelerator: _Optional[str] = ..., threads: _Optional[int] = ..., cpus: _Optional[_Iterable[int]] = ..., allow_fallback: bool = ..., optimize: bool = ...) -> None: ...

class InspectRequest(_message.Message):
    __slots__ = ("lease_id", "runtime", "graph")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    GRAPH_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    runtime: str
    graph: Graph
    def __init__(self, lease_id: _Optional[str] = ..., runtime: _Optional[str] = ..., graph: _Optional[_Union[Graph, _Mapping]] = ...) -> None: ...

class InspectReply(_message.Message):
    __slots__ = ("inputs", "outputs")
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    inputs: _containers.RepeatedCompositeFieldContainer[Tensor]
    outputs: _containers.RepeatedCompositeFieldContainer[Tensor]
    def __init__(self, inputs: _Optional[_Iterable[_Union[Tensor, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[Tensor, _Mapping]]] = ...) -> None: ...

class ProbeRequest(_message.Message):
    __slots__ = ("lease_id", "cpus")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    CPUS_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    cpus: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, lease_id: _Optional[str] = ..., cpus: _Optional[_Iterable[int]] = ...) -> None: ...

class ProbeReply(_message.Message):
    __slots__ = ("probe_ns", "state", "cpu")
    PROBE_NS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CPU_FIELD_NUMBER: _ClassVar[int]
    probe_ns: int
    state: DeviceState
    cpu: int
    def __init__(self, probe_ns: _Optional[int] = ..., state: _Optional[_Union[DeviceState, _Mapping]] = ..., cpu: _Optional[int] = ...) -> None: ...

class FrameLoop(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Edge(_message.Message):
    __slots__ = ("source", "output", "target", "input", "axis", "scale", "offset", "fill")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    AXIS_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    FILL_FIELD_NUMBER: _ClassVar[int]
    source: str
    output: str
    target: str
    input: str
    axis: int
    scale: float
    offset: float
    fill: float
    def __init__(self, source: _Optional[str] = ..., output: _Optional[str] = ..., target: _Optional[str] = ..., input: _Optional[str] = ..., axis: _Optional[int] = ..., scale: _Optional[float] = ..., offset: _Optional[float] = ..., fill: _Optional[float] = ...) -> None: ...

class ChainLoop(_message.Message):
    __slots__ = ("edges",)
    EDGES_FIELD_NUMBER: _ClassVar[int]
    edges: _containers.RepeatedCompositeFieldContainer[Edge]
    def __init__(self, edges: _Optional[_Iterable[_Union[Edge, _Mapping]]] = ...) -> None: ...

class Carried(_message.Message):
    __slots__ = ("source", "input")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    source: str
    input: str
    def __init__(self, source: _Optional[str] = ..., input: _Optional[str] = ...) -> None: ...

class Cache(_message.Message):
    __slots__ = ("input", "output", "dims", "fixed")
    INPUT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    DIMS_FIELD_NUMBER: _ClassVar[int]
    FIXED_FIELD_NUMBER: _ClassVar[int]
    input: str
    output: str
    dims: _containers.RepeatedScalarFieldContainer[int]
    fixed: bool
    def __init__(self, input: _Optional[str] = ..., output: _Optional[str] = ..., dims: _Optional[_Iterable[int]] = ..., fixed: bool = ...) -> None: ...

class Seq2SeqLoop(_message.Message):
    __slots__ = ("encoder", "decoder", "carried", "caches", "tokens", "logits", "use_cache", "start_token", "end_token", "max_tokens", "samples_per_token")
    ENCODER_FIELD_NUMBER: _ClassVar[int]
    DECODER_FIELD_NUMBER: _ClassVar[int]
    CARRIED_FIELD_NUMBER: _ClassVar[int]
    CACHES_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    LOGITS_FIELD_NUMBER: _ClassVar[int]
    USE_CACHE_FIELD_NUMBER: _ClassVar[int]
    START_TOKEN_FIELD_NUMBER: _ClassVar[int]
    END_TOKEN_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_PER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    encoder: str
    decoder: str
    carried: _containers.RepeatedCompositeFieldContainer[Carried]
    caches: _containers.RepeatedCompositeFieldContainer[Cache]
    tokens: str
    logits: str
    use_cache: str
    start_token: int
    end_token: int
    max_tokens: int
    samples_per_token: int
    def __init__(self, encoder: _Optional[str] = ..., decoder: _Optional[str] = ..., carried: _Optional[_Iterable[_Union[Carried, _Mapping]]] = ..., caches: _Optional[_Iterable[_Union[Cache, _Mapping]]] = ..., tokens: _Optional[str] = ..., logits: _Optional[str] = ..., use_cache: _Optional[str] = ..., start_token: _Optional[int] = ..., end_token: _Optional[int] = ..., max_tokens: _Optional[int] = ..., samples_per_token: _Optional[int] = ...) -> None: ...

class LaunchRequest(_message.Message):
    __slots__ = ("lease_id", "launch_id", "kind", "runtime", "graphs", "feeds_sha256", "frame", "chain", "seq2seq", "options", "hop_ns", "warmup_frames", "warmup_ns", "min_frames", "min_duration_ns", "max_frames", "max_duration_ns", "block_frames", "timeout_s", "max_rss_bytes")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    LAUNCH_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    GRAPHS_FIELD_NUMBER: _ClassVar[int]
    FEEDS_SHA256_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    SEQ2SEQ_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    HOP_NS_FIELD_NUMBER: _ClassVar[int]
    WARMUP_FRAMES_FIELD_NUMBER: _ClassVar[int]
    WARMUP_NS_FIELD_NUMBER: _ClassVar[int]
    MIN_FRAMES_FIELD_NUMBER: _ClassVar[int]
    MIN_DURATION_NS_FIELD_NUMBER: _ClassVar[int]
    MAX_FRAMES_FIELD_NUMBER: _ClassVar[int]
    MAX_DURATION_NS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FRAMES_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    MAX_RSS_BYTES_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    launch_id: str
    kind: LaunchKind
    runtime: str
    graphs: _containers.RepeatedCompositeFieldContainer[Graph]
    feeds_sha256: str
    frame: FrameLoop
    chain: ChainLoop
    seq2seq: Seq2SeqLoop
    options: Options
    hop_ns: int
    warmup_frames: int
    warmup_ns: int
    min_frames: int
    min_duration_ns: int
    max_frames: int
    max_duration_ns: int
    block_frames: int
    timeout_s: float
    max_rss_bytes: int
    def __init__(self, lease_id: _Optional[str] = ..., launch_id: _Optional[str] = ..., kind: _Optional[_Union[LaunchKind, str]] = ..., runtime: _Optional[str] = ..., graphs: _Optional[_Iterable[_Union[Graph, _Mapping]]] = ..., feeds_sha256: _Optional[str] = ..., frame: _Optional[_Union[FrameLoop, _Mapping]] = ..., chain: _Optional[_Union[ChainLoop, _Mapping]] = ..., seq2seq: _Optional[_Union[Seq2SeqLoop, _Mapping]] = ..., options: _Optional[_Union[Options, _Mapping]] = ..., hop_ns: _Optional[int] = ..., warmup_frames: _Optional[int] = ..., warmup_ns: _Optional[int] = ..., min_frames: _Optional[int] = ..., min_duration_ns: _Optional[int] = ..., max_frames: _Optional[int] = ..., max_duration_ns: _Optional[int] = ..., block_frames: _Optional[int] = ..., timeout_s: _Optional[float] = ..., max_rss_bytes: _Optional[int] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("number", "started", "loaded", "block", "device_state", "outputs", "finished", "failed", "operators")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    LOADED_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    DEVICE_STATE_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    OPERATORS_FIELD_NUMBER: _ClassVar[int]
    number: int
    started: Started
    loaded: Loaded
    block: Block
    device_state: DeviceState
    outputs: Outputs
    finished: Finished
    failed: Failed
    operators: Operators
    def __init__(self, number: _Optional[int] = ..., started: _Optional[_Union[Started, _Mapping]] = ..., loaded: _Optional[_Union[Loaded, _Mapping]] = ..., block: _Optional[_Union[Block, _Mapping]] = ..., device_state: _Optional[_Union[DeviceState, _Mapping]] = ..., outputs: _Optional[_Union[Outputs, _Mapping]] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ..., failed: _Optional[_Union[Failed, _Mapping]] = ..., operators: _Optional[_Union[Operators, _Mapping]] = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ("pid", "at_mono_ns", "boot_id", "at_unix_ns")
    PID_FIELD_NUMBER: _ClassVar[int]
    AT_MONO_NS_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    AT_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    pid: int
    at_mono_ns: int
    boot_id: str
    at_unix_ns: int
    def __init__(self, pid: _Optional[int] = ..., at_mono_ns: _Optional[int] = ..., boot_id: _Optional[str] = ..., at_unix_ns: _Optional[int] = ...) -> None: ...

class Placement(_message.Message):
    __slots__ = ("asked", "ran", "accelerated_share", "notes", "accelerated_nodes", "nodes")
    ASKED_FIELD_NUMBER: _ClassVar[int]
    RAN_FIELD_NUMBER: _ClassVar[int]
    ACCELERATED_SHARE_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    ACCELERATED_NODES_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    asked: str
    ran: str
    accelerated_share: float
    notes: _containers.RepeatedScalarFieldContainer[str]
    accelerated_nodes: int
    nodes: int
    def __init__(self, asked: _Optional[str] = ..., ran: _Optional[str] = ..., accelerated_share: _Optional[float] = ..., notes: _Optional[_Iterable[str]] = ..., accelerated_nodes: _Optional[int] = ..., nodes: _Optional[int] = ...) -> None: ...

class Loaded(_message.Message):
    __slots__ = ("compile_ns", "load_ns", "first_inference_ns", "placement", "runtime", "rss_before_load_bytes", "rss_after_load_bytes", "memory_reason")
    COMPILE_NS_FIELD_NUMBER: _ClassVar[int]
    LOAD_NS_FIELD_NUMBER: _ClassVar[int]
    FIRST_INFERENCE_NS_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    RSS_BEFORE_LOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    RSS_AFTER_LOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_REASON_FIELD_NUMBER: _ClassVar[int]
    compile_ns: int
    load_ns: int
    first_inference_ns: int
    placement: Placement
    runtime: RuntimeFacts
    rss_before_load_bytes: int
    rss_after_load_bytes: int
    memory_reason: str
    def __init__(self, compile_ns: _Optional[int] = ..., load_ns: _Optional[int] = ..., first_inference_ns: _Optional[int] = ..., placement: _Optional[_Union[Placement, _Mapping]] = ..., runtime: _Optional[_Union[RuntimeFacts, _Mapping]] = ..., rss_before_load_bytes: _Optional[int] = ..., rss_after_load_bytes: _Optional[int] = ..., memory_reason: _Optional[str] = ...) -> None: ...

class Block(_message.Message):
    __slots__ = ("phase", "probe_before_ns", "probe_after_ns", "cpu", "started_mono_ns", "latency_ns", "lateness_ns", "busy", "others_core_share", "marks", "first_token_ns", "tokens")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    PROBE_BEFORE_NS_FIELD_NUMBER: _ClassVar[int]
    PROBE_AFTER_NS_FIELD_NUMBER: _ClassVar[int]
    CPU_FIELD_NUMBER: _ClassVar[int]
    STARTED_MONO_NS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_NS_FIELD_NUMBER: _ClassVar[int]
    LATENESS_NS_FIELD_NUMBER: _ClassVar[int]
    BUSY_FIELD_NUMBER: _ClassVar[int]
    OTHERS_CORE_SHARE_FIELD_NUMBER: _ClassVar[int]
    MARKS_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_NS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    phase: Phase
    probe_before_ns: int
    probe_after_ns: int
    cpu: int
    started_mono_ns: int
    latency_ns: bytes
    lateness_ns: bytes
    busy: _containers.RepeatedCompositeFieldContainer[BusyProcess]
    others_core_share: float
    marks: _containers.RepeatedScalarFieldContainer[str]
    first_token_ns: bytes
    tokens: bytes
    def __init__(self, phase: _Optional[_Union[Phase, str]] = ..., probe_before_ns: _Optional[int] = ..., probe_after_ns: _Optional[int] = ..., cpu: _Optional[int] = ..., started_mono_ns: _Optional[int] = ..., latency_ns: _Optional[bytes] = ..., lateness_ns: _Optional[bytes] = ..., busy: _Optional[_Iterable[_Union[BusyProcess, _Mapping]]] = ..., others_core_share: _Optional[float] = ..., marks: _Optional[_Iterable[str]] = ..., first_token_ns: _Optional[bytes] = ..., tokens: _Optional[bytes] = ...) -> None: ...

class Reading(_message.Message):
    __slots__ = ("number", "text", "reason")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    number: float
    text: str
    reason: str
    def __init__(self, number: _Optional[float] = ..., text: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class BusyProcess(_message.Message):
    __slots__ = ("pid", "name", "core_share", "core")
    PID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CORE_SHARE_FIELD_NUMBER: _ClassVar[int]
    CORE_FIELD_NUMBER: _ClassVar[int]
    pid: int
    name: str
    core_share: float
    core: int
    def __init__(self, pid: _Optional[int] = ..., name: _Optional[str] = ..., core_share: _Optional[float] = ..., core: _Optional[int] = ...) -> None: ...

class DeviceState(_message.Message):
    __slots__ = ("after", "at_mono_ns", "readings", "busy", "during")
    class ReadingsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Reading
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Reading, _Mapping]] = ...) -> None: ...
    AFTER_FIELD_NUMBER: _ClassVar[int]
    AT_MONO_NS_FIELD_NUMBER: _ClassVar[int]
    READINGS_FIELD_NUMBER: _ClassVar[int]
    BUSY_FIELD_NUMBER: _ClassVar[int]
    DURING_FIELD_NUMBER: _ClassVar[int]
    after: bool
    at_mono_ns: int
    readings: _containers.MessageMap[str, Reading]
    busy: _containers.RepeatedCompositeFieldContainer[BusyProcess]
    during: bool
    def __init__(self, after: bool = ..., at_mono_ns: _Optional[int] = ..., readings: _Optional[_Mapping[str, Reading]] = ..., busy: _Optional[_Iterable[_Union[BusyProcess, _Mapping]]] = ..., during: bool = ...) -> None: ...

class Column(_message.Message):
    __slots__ = ("name", "dtype", "dims", "data")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    DIMS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: str
    dims: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[str] = ..., dims: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ...) -> None: ...

class Outputs(_message.Message):
    __slots__ = ("first_frame", "columns")
    FIRST_FRAME_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    first_frame: int
    columns: _containers.RepeatedCompositeFieldContainer[Column]
    def __init__(self, first_frame: _Optional[int] = ..., columns: _Optional[_Iterable[_Union[Column, _Mapping]]] = ...) -> None: ...

class OperatorTime(_message.Message):
    __slots__ = ("name", "op_type", "calls", "total_ns", "ran_on", "accelerated")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OP_TYPE_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_NS_FIELD_NUMBER: _ClassVar[int]
    RAN_ON_FIELD_NUMBER: _ClassVar[int]
    ACCELERATED_FIELD_NUMBER: _ClassVar[int]
    name: str
    op_type: str
    calls: int
    total_ns: int
    ran_on: str
    accelerated: bool
    def __init__(self, name: _Optional[str] = ..., op_type: _Optional[str] = ..., calls: _Optional[int] = ..., total_ns: _Optional[int] = ..., ran_on: _Optional[str] = ..., accelerated: bool = ...) -> None: ...

class Operators(_message.Message):
    __slots__ = ("operators",)
    OPERATORS_FIELD_NUMBER: _ClassVar[int]
    operators: _containers.RepeatedCompositeFieldContainer[OperatorTime]
    def __init__(self, operators: _Optional[_Iterable[_Union[OperatorTime, _Mapping]]] = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ("peak_rss_bytes", "memory_reason", "overhead_ns", "overhead_reason")
    PEAK_RSS_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_REASON_FIELD_NUMBER: _ClassVar[int]
    OVERHEAD_NS_FIELD_NUMBER: _ClassVar[int]
    OVERHEAD_REASON_FIELD_NUMBER: _ClassVar[int]
    peak_rss_bytes: int
    memory_reason: str
    overhead_ns: int
    overhead_reason: str
    def __init__(self, peak_rss_bytes: _Optional[int] = ..., memory_reason: _Optional[str] = ..., overhead_ns: _Optional[int] = ..., overhead_reason: _Optional[str] = ...) -> None: ...

class Failed(_message.Message):
    __slots__ = ("kind", "message", "signal", "stderr")
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    kind: FailureKind
    message: str
    signal: str
    stderr: str
    def __init__(self, kind: _Optional[_Union[FailureKind, str]] = ..., message: _Optional[str] = ..., signal: _Optional[str] = ..., stderr: _Optional[str] = ...) -> None: ...

class LaunchRef(_message.Message):
    __slots__ = ("lease_id", "launch_id")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    LAUNCH_ID_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    launch_id: str
    def __init__(self, lease_id: _Optional[str] = ..., launch_id: _Optional[str] = ...) -> None: ...

class LaunchReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResumeRequest(_message.Message):
    __slots__ = ("lease_id", "launch_id", "after")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    LAUNCH_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    launch_id: str
    after: int
    def __init__(self, lease_id: _Optional[str] = ..., launch_id: _Optional[str] = ..., after: _Optional[int] = ...) -> None: ...

class ListLaunchesRequest(_message.Message):
    __slots__ = ("lease_id",)
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    def __init__(self, lease_id: _Optional[str] = ...) -> None: ...

class ListLaunchesReply(_message.Message):
    __slots__ = ("launches",)
    LAUNCHES_FIELD_NUMBER: _ClassVar[int]
    launches: _containers.RepeatedCompositeFieldContainer[LaunchStatus]
    def __init__(self, launches: _Optional[_Iterable[_Union[LaunchStatus, _Mapping]]] = ...) -> None: ...

class LaunchStatus(_message.Message):
    __slots__ = ("launch_id", "running", "events", "acknowledged")
    LAUNCH_ID_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    launch_id: str
    running: bool
    events: int
    acknowledged: int
    def __init__(self, launch_id: _Optional[str] = ..., running: bool = ..., events: _Optional[int] = ..., acknowledged: _Optional[int] = ...) -> None: ...
