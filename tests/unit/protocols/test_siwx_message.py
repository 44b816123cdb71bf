"""The signed texts, byte for byte: literal vectors written from EIP-4361 and from the field's libraries."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from stablestudio.protocols.siwx import Message, message_text

from .builders import CHAINS, KEY, SOLANA_DEVNET, SOLANA_KEY

ADDRESS = "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2"
PLAIN = Message(
    domain="host:8402",
    uri="https://host:8402/api/jobs/j1",
    nonce="a1b2c3d4e5f67890a1b2c3d4e5f67890",
    issued_at="2026-11-20T19:54:01.836Z",
)
FULL = replace(
    PLAIN,
    statement="Sign in to read your jobs",
    expiration_time="2026-11-20T19:59:01.836Z",
    not_before="2026-11-20T19:54:00Z",
    request_id="r-1",
    resources=("https://host:8402/api/jobs/j1", "https://host:8402/api/jobs"),
)


def sdk_solana() -> ModuleType:
    """Load the SDK's Solana text alone: its package wants more than is installed."""
    found = importlib.util.find_spec("x402")
    assert found is not None
    assert found.origin is not None
    path = Path(found.origin).parent / "extensions" / "sign_in_with_x" / "solana.py"
    spec = importlib.util.spec_from_file_location("sdk_solana", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_of_eip_4361_comes_out_as_printed_there() -> None:
    message = Message(
        domain="example.com",
        statement="I accept the ExampleOrg Terms of Service: https://example.com/tos",
        uri="https://example.com/login",
        nonce="32891756",
        issued_at="2021-09-30T16:25:24Z",
        resources=(
            "ipfs://bafybeiemxf5abjwjbikoz4mc3a3dla6ual3jsgpdr4cjr3oz3evfyavhwq/",
            "https://example.com/my-web2-claim.json",
        ),
    )
    assert message_text(message, chain="eip155:1", address=ADDRESS) == (
        "example.com wants you to sign in with your Ethereum account:\n"
        "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2\n"
        "\n"
        "I accept the ExampleOrg Terms of Service: https://example.com/tos\n"
        "\n"
        "URI: https://example.com/login\n"
        "Version: 1\n"
        "Chain ID: 1\n"
        "Nonce: 32891756\n"
        "Issued At: 2021-09-30T16:25:24Z\n"
        "Resources:\n"
        "- ipfs://bafybeiemxf5abjwjbikoz4mc3a3dla6ual3jsgpdr4cjr3oz3evfyavhwq/\n"
        "- https://example.com/my-web2-claim.json"
    )


FIELDS = (
    "URI: https://host:8402/api/jobs/j1\nVersion: 1\nChain ID: {chain}\n"
    "Nonce: a1b2c3d4e5f67890a1b2c3d4e5f67890\nIssued At: 2026-11-20T19:54:01.836Z"
)
OPTIONAL = (
    "\nExpiration Time: 2026-11-20T19:59:01.836Z\nNot Before: 2026-11-20T19:54:00Z\nRequest ID: r-1\n"
    "Resources:\n- https://host:8402/api/jobs/j1\n- https://host:8402/api/jobs"
)


@pytest.mark.parametrize(
    ("message", "gap", "end"), [(PLAIN, "\n\n\n", ""), (FULL, "\n\nSign in to read your jobs\n\n", OPTIONAL)]
)
def test_evm_texts(message: Message, gap: str, end: str) -> None:
    assert message_text(message, chain="eip155:84532", address=KEY.address) == (
        f"host:8402 wants you to sign in with your Ethereum account:\n{KEY.address}{gap}"
        + FIELDS.format(chain="84532")
        + end
    )


@pytest.mark.parametrize(
    ("message", "gap", "end"), [(PLAIN, "\n\n", ""), (FULL, "\n\nSign in to read your jobs\n\n", OPTIONAL)]
)
def test_solana_texts_have_no_gap_without_a_statement(message: Message, gap: str, end: str) -> None:
    assert message_text(message, chain=SOLANA_DEVNET, address=SOLANA_KEY.address) == (
        f"host:8402 wants you to sign in with your Solana account:\n{SOLANA_KEY.address}{gap}"
        + FIELDS.format(chain="EtWTRABZaYq6iMfeYKouRu166VU2xqa1")
        + end
    )


@pytest.mark.parametrize("message", [PLAIN, FULL, replace(PLAIN, statement="x"), replace(FULL, statement=None)])
def test_solana_texts_are_those_of_the_sdk(message: Message) -> None:
    theirs = sdk_solana().format_siws_message(
        {**message.wire(), "chainId": SOLANA_DEVNET, "issued_at": None}, SOLANA_KEY.address
    )
    assert message_text(message, chain=SOLANA_DEVNET, address=SOLANA_KEY.address) == theirs


@pytest.mark.parametrize("message", [PLAIN, FULL, replace(PLAIN, statement="x"), replace(FULL, statement=None)])
def test_evm_texts_are_those_of_the_sdk(message: Message) -> None:
    pytest.importorskip("siwe", reason="the SDK's EVM text needs signinwithethereum")
    pytest.importorskip("jsonschema", reason="the SDK's extensions need jsonschema")
    evm = importlib.import_module("x402.extensions.sign_in_with_x.evm")
    theirs = evm.format_siwe_message({**message.wire(), "chainId": CHAINS[0]}, KEY.address)
    assert message_text(message, chain=CHAINS[0], address=KEY.address) == theirs
