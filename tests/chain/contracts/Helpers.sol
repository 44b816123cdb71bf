// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// A contract wallet of one owner (EIP-1271): the owner's 65 bytes, perhaps with a tail that a real wallet would read.
contract OwnedWallet {
    address public owner; // slot 0

    function isValidSignature(bytes32 digest, bytes calldata signature) external view returns (bytes4) {
        if (signature.length < 65) return 0xffffffff;
        address signer = ecrecover(digest, uint8(signature[64]), bytes32(signature[:32]), bytes32(signature[32:64]));
        return signer == owner ? this.isValidSignature.selector : bytes4(0xffffffff);
    }
}

/// A contract wallet that burns all the gas it gets.
contract EndlessWallet {
    function isValidSignature(bytes32, bytes calldata) external pure returns (bytes4) {
        while (true) {}
        return 0xffffffff;
    }
}

/// Several calls of one contract in one transaction, as a bundler makes them.
contract Batch {
    function run(address target, bytes[] calldata calls) external {
        for (uint256 i = 0; i < calls.length; i++) {
            (bool done, bytes memory reason) = target.call(calls[i]);
            require(done, string(reason));
        }
    }
}

/// A token that forgets to refuse a spent nonce: it says nothing, moves nothing and succeeds.
contract SilentToken {
    function authorizationState(address, bytes32) external pure returns (bool) {
        return false;
    }

    fallback() external {}
}
