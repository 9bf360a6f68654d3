from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor
GET: RequestType
INVALID: AnnaError
KEY_DNE: AnnaError
LATTICE: AnnaError
LWW: LatticeType
MULTI_CAUSAL: LatticeType
NONE: LatticeType
NO_ERROR: AnnaError
NO_SERVERS: AnnaError
ORDERED_SET: LatticeType
PRIORITY: LatticeType
PUT: RequestType
RETRY: AnnaError
RT_UNSPECIFIED: RequestType
SET: LatticeType
SINGLE_CAUSAL: LatticeType
TIMEOUT: AnnaError
UNDECIDED: AnnaError
WRONG_THREAD: AnnaError

class KeyAddressRequest(_message.Message):
    __slots__ = ["keys", "request_id", "response_address"]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedScalarFieldContainer[str]
    request_id: str
    response_address: str
    def __init__(self, response_address: _Optional[str] = ..., keys: _Optional[_Iterable[str]] = ..., request_id: _Optional[str] = ...) -> None: ...

class KeyAddressResponse(_message.Message):
    __slots__ = ["addresses", "error", "response_id"]
    class KeyAddress(_message.Message):
        __slots__ = ["ips", "key"]
        IPS_FIELD_NUMBER: _ClassVar[int]
        KEY_FIELD_NUMBER: _ClassVar[int]
        ips: _containers.RepeatedScalarFieldContainer[str]
        key: str
        def __init__(self, key: _Optional[str] = ..., ips: _Optional[_Iterable[str]] = ...) -> None: ...
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_ID_FIELD_NUMBER: _ClassVar[int]
    addresses: _containers.RepeatedCompositeFieldContainer[KeyAddressResponse.KeyAddress]
    error: AnnaError
    response_id: str
    def __init__(self, addresses: _Optional[_Iterable[_Union[KeyAddressResponse.KeyAddress, _Mapping]]] = ..., error: _Optional[_Union[AnnaError, str]] = ..., response_id: _Optional[str] = ...) -> None: ...

class KeyRequest(_message.Message):
    __slots__ = ["request_id", "response_address", "tuples", "type"]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    TUPLES_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    response_address: str
    tuples: _containers.RepeatedCompositeFieldContainer[KeyTuple]
    type: RequestType
    def __init__(self, type: _Optional[_Union[RequestType, str]] = ..., tuples: _Optional[_Iterable[_Union[KeyTuple, _Mapping]]] = ..., response_address: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class KeyResponse(_message.Message):
    __slots__ = ["detail", "error", "response_id", "tuples", "type"]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_ID_FIELD_NUMBER: _ClassVar[int]
    TUPLES_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    detail: str
    error: AnnaError
    response_id: str
    tuples: _containers.RepeatedCompositeFieldContainer[KeyTuple]
    type: RequestType
    def __init__(self, type: _Optional[_Union[RequestType, str]] = ..., tuples: _Optional[_Iterable[_Union[KeyTuple, _Mapping]]] = ..., response_id: _Optional[str] = ..., error: _Optional[_Union[AnnaError, str]] = ..., detail: _Optional[str] = ...) -> None: ...

class KeyTuple(_message.Message):
    __slots__ = ["address_cache_size", "error", "invalidate", "key", "lattice_type", "payload"]
    ADDRESS_CACHE_SIZE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    INVALIDATE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    LATTICE_TYPE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    address_cache_size: int
    error: AnnaError
    invalidate: bool
    key: str
    lattice_type: LatticeType
    payload: bytes
    def __init__(self, key: _Optional[str] = ..., lattice_type: _Optional[_Union[LatticeType, str]] = ..., error: _Optional[_Union[AnnaError, str]] = ..., payload: _Optional[bytes] = ..., address_cache_size: _Optional[int] = ..., invalidate: bool = ...) -> None: ...

class KeyVersion(_message.Message):
    __slots__ = ["key", "vector_clock"]
    class VectorClockEntry(_message.Message):
        __slots__ = ["key", "value"]
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    KEY_FIELD_NUMBER: _ClassVar[int]
    VECTOR_CLOCK_FIELD_NUMBER: _ClassVar[int]
    key: str
    vector_clock: _containers.ScalarMap[str, int]
    def __init__(self, key: _Optional[str] = ..., vector_clock: _Optional[_Mapping[str, int]] = ...) -> None: ...

class LWWValue(_message.Message):
    __slots__ = ["timestamp", "value"]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    timestamp: int
    value: bytes
    def __init__(self, timestamp: _Optional[int] = ..., value: _Optional[bytes] = ...) -> None: ...

class MultiKeyCausalValue(_message.Message):
    __slots__ = ["dependencies", "values", "vector_clock"]
    class VectorClockEntry(_message.Message):
        __slots__ = ["key", "value"]
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    DEPENDENCIES_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    VECTOR_CLOCK_FIELD_NUMBER: _ClassVar[int]
    dependencies: _containers.RepeatedCompositeFieldContainer[KeyVersion]
    values: _containers.RepeatedScalarFieldContainer[bytes]
    vector_clock: _containers.ScalarMap[str, int]
    def __init__(self, vector_clock: _Optional[_Mapping[str, int]] = ..., dependencies: _Optional[_Iterable[_Union[KeyVersion, _Mapping]]] = ..., values: _Optional[_Iterable[bytes]] = ...) -> None: ...

class PriorityValue(_message.Message):
    __slots__ = ["priority", "value"]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    priority: float
    value: bytes
    def __init__(self, priority: _Optional[float] = ..., value: _Optional[bytes] = ...) -> None: ...

class SetValue(_message.Message):
    __slots__ = ["values"]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, values: _Optional[_Iterable[bytes]] = ...) -> None: ...

class SingleKeyCausalValue(_message.Message):
    __slots__ = ["values", "vector_clock"]
    class VectorClockEntry(_message.Message):
        __slots__ = ["key", "value"]
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    VALUES_FIELD_NUMBER: _ClassVar[int]
    VECTOR_CLOCK_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[bytes]
    vector_clock: _containers.ScalarMap[str, int]
    def __init__(self, vector_clock: _Optional[_Mapping[str, int]] = ..., values: _Optional[_Iterable[bytes]] = ...) -> None: ...

class StringSet(_message.Message):
    __slots__ = ["keys"]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, keys: _Optional[_Iterable[str]] = ...) -> None: ...

class RequestType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []

class LatticeType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []

class AnnaError(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []
