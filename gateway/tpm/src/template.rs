//! The public areas this product asks the TPM to create; each carries `noDA`, without which three power cuts lock the
//! TPM although every authorisation was right. It creates nothing itself.

use tss_esapi::{
    Error,
    attributes::{ObjectAttributes, ObjectAttributesBuilder},
    interface_types::{
        algorithm::{HashingAlgorithm, PublicAlgorithm},
        ecc::EccCurve,
    },
    structures::{
        Digest, EccPoint, EccScheme, HashScheme, KeyDerivationFunctionScheme, KeyedHashScheme,
        Public, PublicBuilder, PublicEccParametersBuilder, PublicKeyedHashParameters,
        SymmetricDefinitionObject,
    },
};

/// The storage root key: TCG's ECC P-256 storage template (EK Credential Profile, template H-2 as an SRK) with `noDA`,
/// the same that systemd and the kernel documentation use, so that any tool recreates the same key.
pub(crate) fn srk() -> Result<Public, Error> {
    let attributes = bound_to_this_tpm()
        .with_restricted(true)
        .with_decrypt(true)
        .build()?;
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_ecc_parameters(
            PublicEccParametersBuilder::new_restricted_decryption_key(
                SymmetricDefinitionObject::AES_128_CFB,
                EccCurve::NistP256,
            )
            .build()?,
        )
        .with_ecc_unique_identifier(EccPoint::default())
        .build()
}

/// A facility key: made in the TPM, never leaves it, signs SHA-256 digests.
pub(crate) fn generated_key() -> Result<Public, Error> {
    signing(
        bound_to_this_tpm().with_sign_encrypt(true).build()?,
        false,
        EccPoint::default(),
    )
}

/// A key that came from outside. It claims neither fixedTPM nor sensitiveDataOrigin: the TPM would be lying.
pub(crate) fn imported_key(point: EccPoint) -> Result<Public, Error> {
    let attributes = ObjectAttributesBuilder::new()
        .with_user_with_auth(true)
        .with_no_da(true)
        .with_sign_encrypt(true)
        .build()?;
    signing(attributes, false, point)
}

/// The attestation key: restricted, so it signs only what the TPM itself states.
pub(crate) fn attestation_key() -> Result<Public, Error> {
    signing(
        bound_to_this_tpm()
            .with_sign_encrypt(true)
            .with_restricted(true)
            .build()?,
        true,
        EccPoint::default(),
    )
}

/// A sealed data object, opened with the empty authorisation value.
pub(crate) fn sealed_data() -> Result<Public, Error> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_user_with_auth(true)
        .with_no_da(true)
        .build()?;
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::KeyedHash)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_keyed_hash_parameters(PublicKeyedHashParameters::new(KeyedHashScheme::Null))
        .with_keyed_hash_unique_identifier(Digest::default())
        .build()
}

/// A key for HMAC-SHA256: made in the TPM, never leaves it.
pub(crate) fn hmac_key() -> Result<Public, Error> {
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::KeyedHash)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(bound_to_this_tpm().with_sign_encrypt(true).build()?)
        .with_keyed_hash_parameters(PublicKeyedHashParameters::new(
            KeyedHashScheme::HMAC_SHA_256,
        ))
        .with_keyed_hash_unique_identifier(Digest::default())
        .build()
}

fn bound_to_this_tpm() -> ObjectAttributesBuilder {
    ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_no_da(true)
}

fn signing(
    attributes: ObjectAttributes,
    restricted: bool,
    point: EccPoint,
) -> Result<Public, Error> {
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_ecc_parameters(
            PublicEccParametersBuilder::new()
                .with_ecc_scheme(EccScheme::EcDsa(HashScheme::new(HashingAlgorithm::Sha256)))
                .with_curve(EccCurve::NistP256)
                // Without this line the builder fails only at run time ("parameters not provided").
                .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
                .with_is_signing_key(true)
                .with_is_decryption_key(false)
                .with_restricted(restricted)
                .build()?,
        )
        .with_ecc_unique_identifier(point)
        .build()
}
