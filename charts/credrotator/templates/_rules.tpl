{{/*
Rights, by verb. Everything that is watched is watched by the daemon only; the job reads what it needs, once.

RBAC can tie get, update, patch and delete to names, and list and watch where they ask for one name; never create, and
nothing to labels. The names of client secrets, and of the Secrets that are published, come with the policies, so only
those of the Lease and of the bells that come and go can stand here.
*/}}
{{- define "credrotator.rules" -}}
{{- $daemon := eq .Values.mode "deployment" -}}
- apiGroups: [aigateway.envoyproxy.io]
  resources: [backendsecuritypolicies]
  verbs: [get, list{{ if $daemon }}, watch{{ end }}]
- apiGroups: [aigateway.envoyproxy.io]
  resources: [backendsecuritypolicies/status]
  verbs: [patch]
# For `status`, which shows who depends on a policy.
- apiGroups: [aigateway.envoyproxy.io]
  resources: [aiservicebackends, aigatewayroutes]
  verbs: [get, list]
# Publishing; Secrets that ask for themselves are listed by label.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, create, update]
# An empty Secret that was created a moment before, to make the gateway look.
- apiGroups: [""]
  resources: [secrets]
  resourceNames:
{{- range until 8 }}
    - credrotator-bell-{{ . }}
{{- end }}
  verbs: [delete]
{{- if $daemon }}
# Those of ours, and those that ask for themselves, are watched by label, client secrets one by one by name.
- apiGroups: [""]
  resources: [secrets]
  verbs: [watch]
{{- end }}
- apiGroups: [gateway.networking.k8s.io]
  resources: [referencegrants]
  verbs: [get, list]
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{/* For a namespace that only holds client secrets. */}}
{{- define "credrotator.clientSecretRules" -}}
- apiGroups: [""]
  resources: [secrets]
  verbs: [get{{ if eq .Values.mode "deployment" }}, list, watch{{ end }}]
- apiGroups: [gateway.networking.k8s.io]
  resources: [referencegrants]
  verbs: [get, list]
{{- end -}}

{{/* For tokens of service accounts; of those that are named, or of all in the namespace. */}}
{{- define "credrotator.accountRules" -}}
- apiGroups: [""]
  resources: [serviceaccounts/token]
  {{- with .accounts }}
  resourceNames: {{ toJson . }}
  {{- end }}
  verbs: [create]
{{- end -}}

{{/* For what filters are configured with: the Secrets of the named Gateways, as their controller calls them. */}}
{{- define "credrotator.filterRules" -}}
- apiGroups: [""]
  resources: [secrets]
  resourceNames:
{{- range .Values.verifyDelivery.gateways }}
{{- $whole := printf "%s-%s" .name .namespace }}
{{- $hash := printf "%s/%s" .namespace .name | sha256sum | trunc 12 }}
    - {{ $whole | quote }}
    - {{ printf "%s-%s" ($whole | trunc 240 | trimSuffix "-") $hash | quote }}
{{- range until 8 }}
    - {{ printf "%s-%s-part-%03d" ($whole | trunc 231 | trimSuffix "-") $hash . | quote }}
{{- end }}
{{- end }}
  verbs: [get]
{{- end -}}

{{- define "credrotator.subjects" -}}
subjects:
  - kind: ServiceAccount
    name: {{ include "credrotator.serviceAccountName" . }}
    namespace: {{ .Release.Namespace }}
{{- end -}}
