from aft._wire import anna_pb2 as _anna_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

ABORTED: TransactionStatus
COMMITTED: TransactionStatus
DESCRIPTOR: _descriptor.FileDescriptor
LOG_STATE_COMMITTED: LogState
LOG_STATE_OPEN: LogState
LOG_STATE_PUBLISHED: LogState
LOG_STATE_VOID: LogState
RUNNING: TransactionStatus

class CommitRequest(_message.Message):
    __slots__ = ["addresses", "responseAddress", "tid"]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    RESPONSEADDRESS_FIELD_NUMBER: _ClassVar[int]
    TID_FIELD_NUMBER: _ClassVar[int]
    addresses: _containers.RepeatedScalarFieldContainer[str]
    responseAddress: str
    tid: str
    def __init__(self, tid: _Optional[str] = ..., responseAddress: _Optional[str] = ..., addresses: _Optional[_Iterable[str]] = ...) -> None: ...

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
    __slots__ = ["id", "record", "state"]
    ID_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    id: str
    record: TransactionRecord
    state: LogState
    def __init__(self, state: _Optional[_Union[LogState, str]] = ..., id: _Optional[str] = ..., record: _Optional[_Union[TransactionRecord, _Mapping]] = ...) -> None: ...

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

class PackedValue(_message.Message):
    __slots__ = ["apart", "position", "value"]
    APART_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    apart: bool
    position: int
    value: bytes
    def __init__(self, position: _Optional[int] = ..., value: _Optional[bytes] = ..., apart: bool = ...) -> None: ...

class StoredOutcome(_message.Message):
    __slots__ = ["record", "values"]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    record: TransactionRecord
    values: _containers.RepeatedCompositeFieldContainer[PackedValue]
    def __init__(self, record: _Optional[_Union[TransactionRecord, _Mapping]] = ..., values: _Optional[_Iterable[_Union[PackedValue, _Mapping]]] = ...) -> None: ...

class TransactionIdList(_message.Message):
    __slots__ = ["ids"]
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, ids: _Optional[_Iterable[str]] = ...) -> None: ...

class TransactionList(_message.Message):
    __slots__ = ["first", "incarnation", "last", "origin", "records", "resend"]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    RESEND_FIELD_NUMBER: _ClassVar[int]
    first: int
    incarnation: str
    last: int
    origin: str
    records: _containers.RepeatedCompositeFieldContainer[TransactionRecord]
    resend: bool
    def __init__(self, records: _Optional[_Iterable[_Union[TransactionRecord, _Mapping]]] = ..., origin: _Optional[str] = ..., incarnation: _Optional[str] = ..., first: _Optional[int] = ..., last: _Optional[int] = ..., resend: bool = ...) -> None: ...

class TransactionRecord(_message.Message):
    __slots__ = ["fresh", "id", "readSet", "replicaId", "status", "timestamp", "writeSet"]
    class ReadSetEntry(_message.Message):
        __slots__ = ["key", "value"]
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    FRESH_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    READSET_FIELD_NUMBER: _ClassVar[int]
    REPLICAID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    WRITESET_FIELD_NUMBER: _ClassVar[int]
    fresh: _containers.RepeatedScalarFieldContainer[int]
    id: str
    readSet: _containers.ScalarMap[str, str]
    replicaId: str
    status: TransactionStatus
    timestamp: int
    writeSet: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., timestamp: _Optional[int] = ..., status: _Optional[_Union[TransactionStatus, str]] = ..., replicaId: _Optional[str] = ..., writeSet: _Optional[_Iterable[str]] = ..., readSet: _Optional[_Mapping[str, str]] = ..., fresh: _Optional[_Iterable[int]] = ...) -> None: ...

class TransactionTag(_message.Message):
    __slots__ = ["address", "detail", "error", "id", "status"]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    address: str
    detail: str
    error: _anna_pb2.AnnaError
    id: str
    status: TransactionStatus
    def __init__(self, id: _Optional[str] = ..., status: _Optional[_Union[TransactionStatus, str]] = ..., address: _Optional[str] = ..., error: _Optional[_Union[_anna_pb2.AnnaError, str]] = ..., detail: _Optional[str] = ...) -> None: ...

class TransactionStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []

class LogState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []
