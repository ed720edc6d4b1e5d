//! The key pair of a hold: the programs that run under the hold prove with it that they do.

use aws_lc_rs::rand;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use turnlock::SessionId;
use turnlock::nesting::{Bytes, OuterHold};

/// A key pair (Ed25519). It gives no right but to claim to work under the hold.
pub struct HoldKey {
    seed: Bytes<32>,
    pair: Ed25519KeyPair,
}

impl HoldKey {
    /// Returns a new key pair. `None` if the system has no random bytes.
    pub fn generate() -> Option<Self> {
        let mut seed = [0; 32];
        rand::fill(&mut seed).ok()?;
        Self::from_seed(Bytes(seed))
    }

    /// Returns the key pair that this secret makes.
    pub fn from_seed(seed: Bytes<32>) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed.0).ok()?;
        Some(HoldKey { seed, pair })
    }

    /// Returns the secret.
    pub fn seed(&self) -> &Bytes<32> {
        &self.seed
    }

    /// Returns the public key.
    pub fn public(&self) -> Bytes<32> {
        let mut public = [0; 32];
        public.copy_from_slice(self.pair.public_key().as_ref());
        Bytes(public)
    }

    /// Signs the claim of this session to work under the hold.
    pub fn sign(&self, claimant: SessionId) -> [u8; 64] {
        let mut proof = [0; 64];
        proof.copy_from_slice(self.pair.sign(&OuterHold::to_sign(claimant)).as_ref());
        proof
    }

    /// Returns whether the claim, made by this session, is signed with the other half of this public
    /// key.
    pub fn has_signed(public: &Bytes<32>, claimant: SessionId, claim: &OuterHold) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, &public.0);
        let proof = claim.proof.as_ref();
        proof.is_some_and(|proof| key.verify(&OuterHold::to_sign(claimant), &proof.0).is_ok())
    }
}
