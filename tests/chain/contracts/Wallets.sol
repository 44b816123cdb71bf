// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {OwnedWallet} from "./Helpers.sol";

/// A contract wallet that fails when it is asked, and a factory that fails when it is called.
contract Refusing {
    fallback() external {
        revert("not today");
    }
}

/// A contract wallet that answers a word of its own choice, cut or drawn out to a length of its own choice.
contract Babbler {
    bytes32 private word; // slot 0
    uint256 private length; // slot 1

    fallback() external {
        assembly {
            mstore(0, sload(0))
            return(0, sload(1))
        }
    }
}

/// A contract wallet that says yes to whoever asks for free, and no to its token.
contract TwoFaced {
    function isValidSignature(bytes32, bytes calldata) external view returns (bytes4) {
        return msg.sender == tx.origin ? this.isValidSignature.selector : bytes4(0xffffffff);
    }
}

/// A contract wallet that says yes to every rehearsal, and no once gas is paid for.
contract Fickle {
    function isValidSignature(bytes32, bytes calldata) external view returns (bytes4) {
        return tx.gasprice == 0 ? this.isValidSignature.selector : bytes4(0xffffffff);
    }
}

/// A wallet as its factory makes it.
contract NewWallet is OwnedWallet {
    constructor(address owner_) {
        owner = owner_;
    }
}

/// A factory of wallets whose addresses are known before they exist; a second call for one does nothing.
contract Factory {
    function find(address owner, bytes32 salt) public view returns (address) {
        bytes32 code = keccak256(abi.encodePacked(type(NewWallet).creationCode, abi.encode(owner)));
        return address(uint160(uint256(keccak256(abi.encodePacked(bytes1(0xff), address(this), salt, code)))));
    }

    function deploy(address owner, bytes32 salt) external {
        if (find(owner, salt).code.length == 0) new NewWallet{salt: salt}(owner);
    }
}

/// A factory that fails only where its transaction is paid for.
contract FickleFactory is Factory {
    function deployFree(address owner, bytes32 salt) external {
        require(tx.gasprice == 0, "not today");
        this.deploy(owner, salt);
    }
}
