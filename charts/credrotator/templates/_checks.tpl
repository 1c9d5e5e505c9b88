{{/* What a schema cannot say in words that help. */}}
{{- define "credrotator.checks" -}}
{{- $values := .Values -}}
{{- if and $values.caBundle.configMap $values.caBundle.secret -}}
{{- fail "caBundle: name a configMap or a secret, not both" -}}
{{- end -}}
{{- $tokens := list -}}
{{- range $values.tokenFiles -}}
{{- $tokens = append $tokens (include "credrotator.tokenFile" .) -}}
{{- end -}}
{{- if ne (len $tokens) (len (uniq $tokens)) -}}
{{- fail "tokenFiles: two have the same name for the same namespace" -}}
{{- end -}}
{{- $granted := list -}}
{{- range $values.serviceAccountTokens -}}
{{- $granted = append $granted .namespace -}}
{{- end -}}
{{- if ne (len $granted) (len (uniq $granted)) -}}
{{- fail "serviceAccountTokens: a namespace is named twice; list its accounts in one entry" -}}
{{- end -}}
{{- if and (eq $values.mode "deployment") (not $values.leaderElection.enabled) (gt (int $values.replicas) 1) -}}
{{- fail (printf "leaderElection.enabled=false with replicas=%d: two would write at once; set replicas=1" (int $values.replicas)) -}}
{{- end -}}
{{- if and $values.clientSecretNamespaces (not $values.watchNamespaces) -}}
{{- fail "clientSecretNamespaces is for watchNamespaces; without those every namespace can be read" -}}
{{- end -}}
{{- if and (not $values.serviceAccount.create) (not $values.serviceAccount.name) $values.rbac.create -}}
{{- fail "serviceAccount.create=false: name the account in serviceAccount.name; the default one of the namespace gets no rights from this chart" -}}
{{- end -}}
{{- end -}}
