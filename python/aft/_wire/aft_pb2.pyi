from aft._wire import anna_pb2 as _anna_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

ABORTED: TransactionStatus
COMMITTED: TransactionStatus
COMMIT_STEP_COLLECT: CommitStep
COMMIT_STEP_FORWARD: CommitStep
COMMIT_STEP_OVER: CommitStep
COMMIT_STEP_PERSIST: CommitStep
DESCRIPTOR: _descriptor.FileDescriptor
LOG_STATE_COMMITTED: LogState
LOG_STATE_OPEN: LogState
LOG_STATE_PUBLISHED: LogState
LOG_STATE_VOID: LogState
RUNNING: TransactionStatus

class AftCommitRequest(_message.Message):
    __slots__ = ["addresses", "hops", "incarnation", "named", "node", "number", "record", "responseAddress", "step", "visit"]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    HOPS_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    NAMED_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    RESPONSEADDRESS_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    VISIT_FIELD_NUMBER: _ClassVar[int]
    addresses: _containers.RepeatedScalarFieldContainer[str]
    hops: int
    incarnation: str
    named: bool
    node: str
    number: int
    record: TransactionRecord
    responseAddress: str
    step: CommitStep
    visit: Visit
    def __init__(self, record: _Optional[_Union[TransactionRecord, _Mapping]] = ..., responseAddress: _Optional[str] = ..., step: _Optional[_Union[CommitStep, str]] = ..., number: _Optional[int] = ..., node: _Optional[str] = ..., incarnation: _Optional[str] = ..., visit: _Optional[_Union[Visit, _Mapping]] = ..., hops: _Optional[int] = ..., addresses: _Optional[_Iterable[str]] = ..., named: bool = ...) -> None: ...

class AftCommitResponse(_message.Message):
    __slots__ = ["error", "number", "status", "step", "token", "values"]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    error: str
    number: int
    status: TransactionStatus
    step: CommitStep
    token: CommitToken
    values: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, number: _Optional[int] = ..., error: _Optional[str] = ..., values: _Optional[_Iterable[bytes]] = ..., status: _Optional[_Union[TransactionStatus, str]] = ..., step: _Optional[_Union[CommitStep, str]] = ..., token: _Optional[_Union[CommitToken, _Mapping]] = ...) -> None: ...

class AftQuery(_message.Message):
    __slots__ = ["incarnation", "key", "number", "puts", "responseAddress", "tid"]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PUTS_FIELD_NUMBER: _ClassVar[int]
    RESPONSEADDRESS_FIELD_NUMBER: _ClassVar[int]
    TID_FIELD_NUMBER: _ClassVar[int]
    incarnation: str
    key: str
    number: int
    puts: int
    responseAddress: str
    tid: str
    def __init__(self, key: _Optional[str] = ..., tid: _Optional[str] = ..., responseAddress: _Optional[str] = ..., number: _Optional[int] = ..., incarnation: _Optional[str] = ..., puts: _Optional[int] = ...) -> None: ...

class AftResponse(_message.Message):
    __slots__ = ["data", "found", "key", "number", "pointer", "tid"]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    POINTER_FIELD_NUMBER: _ClassVar[int]
    TID_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    found: bool
    key: str
    number: int
    pointer: str
    tid: str
    def __init__(self, key: _Optional[str] = ..., found: bool = ..., pointer: _Optional[str] = ..., data: _Optional[bytes] = ..., number: _Optional[int] = ..., tid: _Optional[str] = ...) -> None: ...

class CommitRequest(_message.Message):
    __slots__ = ["addresses", "responseAddress", "tid"]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    RESPONSEADDRESS_FIELD_NUMBER: _ClassVar[int]
    TID_FIELD_NUMBER: _ClassVar[int]
    addresses: _containers.RepeatedScalarFieldContainer[str]
    responseAddress: str
    tid: str
    def __init__(self, tid: _Optional[str] = ..., responseAddress: _Optional[str] = ..., addresses: _Optional[_Iterable[str]] = ...) -> None: ...

class CommitToken(_message.Message):
    __slots__ = ["id", "incarnation", "node", "number"]
    ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    id: str
    incarnation: str
    node: str
    number: int
    def __init__(self, id: _Optional[str] = ..., node: _Optional[str] = ..., incarnation: _Optional[str] = ..., number: _Optional[int] = ...) -> None: ...

class Grave(_message.Message):
    __slots__ = ["id", "timestamp"]
    ID_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    id: str
    timestamp: int
    def __init__(self, id: _Optional[str] = ..., timestamp: _Optional[int] = ...) -> None: ...

class GraveBucket(_message.Message):
    __slots__ = ["closed", "graves"]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    GRAVES_FIELD_NUMBER: _ClassVar[int]
    closed: bool
    graves: _containers.RepeatedCompositeFieldContainer[Grave]
    def __init__(self, graves: _Optional[_Iterable[_Union[Grave, _Mapping]]] = ..., closed: bool = ...) -> None: ...

class HeldWrite(_message.Message):
    __slots__ = ["depth", "key", "visit"]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VISIT_FIELD_NUMBER: _ClassVar[int]
    depth: int
    key: str
    visit: int
    def __init__(self, key: _Optional[str] = ..., visit: _Optional[int] = ..., depth: _Optional[int] = ...) -> None: ...

class KeyValuePair(_message.Message):
    __slots__ = ["cowrittenKeys", "key", "mark", "tid", "timestamp", "value"]
    COWRITTENKEYS_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    MARK_FIELD_NUMBER: _ClassVar[int]
    TID_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    cowrittenKeys: _containers.RepeatedScalarFieldContainer[str]
    key: str
    mark: int
    tid: str
    timestamp: int
    value: bytes
    def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ..., cowrittenKeys: _Optional[_Iterable[str]] = ..., tid: _Optional[str] = ..., timestamp: _Optional[int] = ..., mark: _Optional[int] = ...) -> None: ...

class LogBucket(_message.Message):
    __slots__ = ["closed", "entries"]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    closed: bool
    entries: _containers.RepeatedCompositeFieldContainer[LogEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[LogEntry, _Mapping]]] = ..., closed: bool = ...) -> None: ...

class LogEntry(_message.Message):
    __slots__ = ["id", "keys", "record", "state", "timestamp"]
    ID_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    id: str
    keys: int
    record: TransactionRecord
    state: LogState
    timestamp: int
    def __init__(self, state: _Optional[_Union[LogState, str]] = ..., id: _Optional[str] = ..., record: _Optional[_Union[TransactionRecord, _Mapping]] = ..., timestamp: _Optional[int] = ..., keys: _Optional[int] = ...) -> None: ...

class LogSegment(_message.Message):
    __slots__ = ["low", "records", "settled"]
    LOW_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    low: int
    records: _containers.RepeatedCompositeFieldContainer[NumberedRecord]
    settled: bool
    def __init__(self, low: _Optional[int] = ..., settled: bool = ..., records: _Optional[_Iterable[_Union[NumberedRecord, _Mapping]]] = ...) -> None: ...

class MetadataRequest(_message.Message):
    __slots__ = ["address", "responseAddress", "tid"]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    RESPONSEADDRESS_FIELD_NUMBER: _ClassVar[int]
    TID_FIELD_NUMBER: _ClassVar[int]
    address: str
    responseAddress: str
    tid: str
    def __init__(self, tid: _Optional[str] = ..., responseAddress: _Optional[str] = ..., address: _Optional[str] = ...) -> None: ...

class NodeLogs(_message.Message):
    __slots__ = ["ended", "firsts", "gone"]
    class FirstsEntry(_message.Message):
        __slots__ = ["key", "value"]
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ENDED_FIELD_NUMBER: _ClassVar[int]
    FIRSTS_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    ended: _containers.RepeatedScalarFieldContainer[str]
    firsts: _containers.ScalarMap[str, int]
    gone: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, gone: _Optional[_Iterable[str]] = ..., ended: _Optional[_Iterable[str]] = ..., firsts: _Optional[_Mapping[str, int]] = ...) -> None: ...

class NumberedRecord(_message.Message):
    __slots__ = ["number", "record"]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    number: int
    record: TransactionRecord
    def __init__(self, number: _Optional[int] = ..., record: _Optional[_Union[TransactionRecord, _Mapping]] = ...) -> None: ...

class PackedValue(_message.Message):
    __slots__ = ["apart", "position", "value"]
    APART_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    apart: bool
    position: int
    value: bytes
    def __init__(self, position: _Optional[int] = ..., value: _Optional[bytes] = ..., apart: bool = ...) -> None: ...

class ReadVersion(_message.Message):
    __slots__ = ["commit", "foreignHash", "foreignTimestamp", "key"]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    FOREIGNHASH_FIELD_NUMBER: _ClassVar[int]
    FOREIGNTIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    commit: int
    foreignHash: int
    foreignTimestamp: int
    key: str
    def __init__(self, key: _Optional[str] = ..., commit: _Optional[int] = ..., foreignTimestamp: _Optional[int] = ..., foreignHash: _Optional[int] = ...) -> None: ...

class StoredHead(_message.Message):
    __slots__ = ["id", "key", "record", "timestamp"]
    ID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    id: str
    key: str
    record: TransactionRecord
    timestamp: int
    def __init__(self, key: _Optional[str] = ..., id: _Optional[str] = ..., timestamp: _Optional[int] = ..., record: _Optional[_Union[TransactionRecord, _Mapping]] = ...) -> None: ...

class StoredOutcome(_message.Message):
    __slots__ = ["log", "number", "record", "values"]
    LOG_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    log: str
    number: int
    record: TransactionRecord
    values: _containers.RepeatedCompositeFieldContainer[PackedValue]
    def __init__(self, record: _Optional[_Union[TransactionRecord, _Mapping]] = ..., values: _Optional[_Iterable[_Union[PackedValue, _Mapping]]] = ..., log: _Optional[str] = ..., number: _Optional[int] = ...) -> None: ...

class TransactionIdList(_message.Message):
    __slots__ = ["ids"]
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, ids: _Optional[_Iterable[str]] = ...) -> None: ...

class TransactionList(_message.Message):
    __slots__ = ["first", "found", "grace", "graced", "inLogTo", "incarnation", "last", "origin", "readableTo", "records", "resend"]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    GRACED_FIELD_NUMBER: _ClassVar[int]
    GRACE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    INLOGTO_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    READABLETO_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    RESEND_FIELD_NUMBER: _ClassVar[int]
    first: int
    found: bool
    grace: int
    graced: int
    inLogTo: int
    incarnation: str
    last: int
    origin: str
    readableTo: int
    records: _containers.RepeatedCompositeFieldContainer[TransactionRecord]
    resend: bool
    def __init__(self, records: _Optional[_Iterable[_Union[TransactionRecord, _Mapping]]] = ..., origin: _Optional[str] = ..., incarnation: _Optional[str] = ..., first: _Optional[int] = ..., last: _Optional[int] = ..., inLogTo: _Optional[int] = ..., resend: bool = ..., grace: _Optional[int] = ..., graced: _Optional[int] = ..., readableTo: _Optional[int] = ..., found: bool = ...) -> None: ...

class TransactionRecord(_message.Message):
    __slots__ = ["ageUs", "commits", "depth", "error", "firstSay", "fresh", "held", "id", "incarnation", "missing", "number", "readSet", "reads", "replicaId", "status", "timestamp", "visited", "writeSet"]
    class ReadSetEntry(_message.Message):
        __slots__ = ["key", "value"]
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    AGEUS_FIELD_NUMBER: _ClassVar[int]
    COMMITS_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    FIRSTSAY_FIELD_NUMBER: _ClassVar[int]
    FRESH_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    READSET_FIELD_NUMBER: _ClassVar[int]
    READS_FIELD_NUMBER: _ClassVar[int]
    REPLICAID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    VISITED_FIELD_NUMBER: _ClassVar[int]
    WRITESET_FIELD_NUMBER: _ClassVar[int]
    ageUs: int
    commits: _containers.RepeatedCompositeFieldContainer[TransactionRecord]
    depth: int
    error: str
    firstSay: bool
    fresh: _containers.RepeatedScalarFieldContainer[int]
    held: _containers.RepeatedCompositeFieldContainer[HeldWrite]
    id: str
    incarnation: str
    missing: _containers.RepeatedScalarFieldContainer[str]
    number: int
    readSet: _containers.ScalarMap[str, str]
    reads: _containers.RepeatedCompositeFieldContainer[ReadVersion]
    replicaId: str
    status: TransactionStatus
    timestamp: int
    visited: _containers.RepeatedCompositeFieldContainer[Visit]
    writeSet: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., timestamp: _Optional[int] = ..., status: _Optional[_Union[TransactionStatus, str]] = ..., replicaId: _Optional[str] = ..., writeSet: _Optional[_Iterable[str]] = ..., readSet: _Optional[_Mapping[str, str]] = ..., fresh: _Optional[_Iterable[int]] = ..., error: _Optional[str] = ..., incarnation: _Optional[str] = ..., reads: _Optional[_Iterable[_Union[ReadVersion, _Mapping]]] = ..., commits: _Optional[_Iterable[_Union[TransactionRecord, _Mapping]]] = ..., missing: _Optional[_Iterable[str]] = ..., held: _Optional[_Iterable[_Union[HeldWrite, _Mapping]]] = ..., visited: _Optional[_Iterable[_Union[Visit, _Mapping]]] = ..., depth: _Optional[int] = ..., number: _Optional[int] = ..., firstSay: bool = ..., ageUs: _Optional[int] = ...) -> None: ...

class TransactionTag(_message.Message):
    __slots__ = ["address", "detail", "error", "id", "status", "token"]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    address: str
    detail: str
    error: _anna_pb2.AnnaError
    id: str
    status: TransactionStatus
    token: bytes
    def __init__(self, id: _Optional[str] = ..., status: _Optional[_Union[TransactionStatus, str]] = ..., address: _Optional[str] = ..., error: _Optional[_Union[_anna_pb2.AnnaError, str]] = ..., detail: _Optional[str] = ..., token: _Optional[bytes] = ...) -> None: ...

class Visit(_message.Message):
    __slots__ = ["incarnation", "node", "puts", "steps"]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    PUTS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    incarnation: str
    node: str
    puts: int
    steps: int
    def __init__(self, node: _Optional[str] = ..., incarnation: _Optional[str] = ..., steps: _Optional[int] = ..., puts: _Optional[int] = ...) -> None: ...

class TransactionStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []

class CommitStep(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []

class LogState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []
