"""
Types that SDKs before 0.27 ask about before they use them, with the fields and inputs that they look for.

These SDKs send an input only when its type lists it, and fail where the type itself is unknown.
"""

from __future__ import annotations

from wandb_airflow_provider.devserver.graphql.registry import declare

declare("ServerInfo", "cliVersionInfo", "features", "latestLocalVersionInfo")
declare("ServerSettings", "serverMessages")
declare("Project", "internalId", "isReadOnly")
declare("Run", "projectId")
declare("Organization", "orgEntity", "members", "teams")
declare("Artifact", "ttlDurationSeconds", "ttlIsInherited", "tags", "historyStep")
declare("AddAliasesInput", "artifactID", "aliases")
declare("UseArtifactInput", "artifactID", "entityName", "projectName", "runName", "usedAs")
declare("DeleteFilesInput", "files", "projectId")
declare("CreateArtifactFileSpecInput", "artifactID", "artifactManifestID", "md5", "mimetype", "name")
declare(
    "CreateArtifactInput",
    "aliases",
    "artifactCollectionName",
    "artifactCollectionNames",
    "artifactTypeName",
    "clientID",
    "description",
    "digest",
    "digestAlgorithm",
    "distributedID",
    "enableDigestDeduplication",
    "entityName",
    "historyStep",
    "metadata",
    "projectName",
    "runName",
    "sequenceClientID",
    "tags",
    "ttlDurationSeconds",
)
