{{/* Names and labels. */}}

{{- define "credrotator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* 52 characters are left for a CronJob's name; the same for all objects, so that a change of mode changes no name. */}}
{{- define "credrotator.fullname" -}}
{{- $name := include "credrotator.name" . -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- default $full .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{/* Roles outside the release's namespace: two releases of one name may stand in two namespaces. */}}
{{- define "credrotator.roleName" -}}
{{- printf "%s:%s" .Release.Namespace (include "credrotator.fullname" .) -}}
{{- end -}}

{{- define "credrotator.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "credrotator.fullname" .) "default") -}}
{{- end -}}

{{- define "credrotator.lease" -}}
{{- .Values.leaderElection.lease | default (include "credrotator.fullname" .) -}}
{{- end -}}

{{- define "credrotator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "credrotator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "credrotator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{ include "credrotator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "credrotator.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository ($image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
