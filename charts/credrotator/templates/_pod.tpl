{{/* The pod, the same for the daemon and the job but for the command; takes (dict "root" $ "command" list). */}}
{{- define "credrotator.pod" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
metadata:
  labels:
    {{- include "credrotator.labels" $root | nindent 4 }}
    {{- with $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: credrotator
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "credrotator.serviceAccountName" $root }}
  # The account itself mounts its token nowhere; this pod talks to the API server.
  automountServiceAccountToken: true
  enableServiceLinks: false
  {{- if eq $values.mode "cronjob" }}
  restartPolicy: Never
  {{- end }}
  terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
  {{- with $values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    {{- toYaml $values.podSecurityContext | nindent 4 }}
  containers:
    - name: credrotator
      image: {{ include "credrotator.image" $root | quote }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      args:
        {{- range until (int $values.verbosity) }}
        - "-v"
        {{- end }}
        {{- range .command }}
        - {{ . | quote }}
        {{- end }}
        {{- if not $values.watchNamespaces }}
        # Not a variable: it would win over the -n of a command that is run by hand.
        - "--all-namespaces"
        {{- end }}
        {{- range $values.extraArgs }}
        - {{ . | quote }}
        {{- end }}
      {{- with include "credrotator.env" $root | trim }}
      env:
        {{- . | nindent 8 }}
      {{- end }}
      {{- with $values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if eq $values.mode "deployment" }}
      ports:
        - {name: http, containerPort: {{ $values.listen.port }}, protocol: TCP}
      startupProbe:
        httpGet: {path: /healthz, port: http}
        {{- toYaml $values.startupProbe | nindent 8 }}
      livenessProbe:
        httpGet: {path: /healthz, port: http}
        {{- toYaml $values.livenessProbe | nindent 8 }}
      readinessProbe:
        httpGet: {path: /readyz, port: http}
        {{- toYaml $values.readinessProbe | nindent 8 }}
      {{- end }}
      securityContext:
        {{- toYaml $values.securityContext | nindent 8 }}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- if or $values.caBundle.configMap $values.caBundle.secret }}
        # The directory and not the file, which would stay as it was when the pod started.
        - {name: ca, mountPath: /etc/credrotator/ca, readOnly: true}
        {{- end }}
        {{- if $values.tokenFiles }}
        - {name: tokens, mountPath: /var/run/secrets/credrotator.io/tokens, readOnly: true}
        {{- end }}
        {{- with $values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    # The only place that can be written; nothing secret is kept there.
    - name: tmp
      emptyDir: {medium: Memory, sizeLimit: 16Mi}
    {{- with $values.caBundle.configMap }}
    - name: ca
      configMap: {name: {{ . }}}
    {{- end }}
    {{- with $values.caBundle.secret }}
    - name: ca
      secret: {secretName: {{ . }}, items: [{key: {{ $values.caBundle.key }}, path: {{ $values.caBundle.key }}}]}
    {{- end }}
    {{- with $values.tokenFiles }}
    - name: tokens
      projected:
        sources:
          {{- range . }}
          - serviceAccountToken:
              path: {{ include "credrotator.tokenFile" . }}
              audience: {{ .audience | quote }}
              expirationSeconds: {{ int (default 3600 .expirationSeconds) }}
          {{- end }}
    {{- end }}
    {{- with $values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if and (eq $values.mode "deployment") $values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- $labels := include "credrotator.selectorLabels" $root | fromYaml }}
    {{- range $values.topologySpreadConstraints }}
    - {{ merge (dict) . (dict "labelSelector" (dict "matchLabels" $labels)) | toJson }}
    {{- end }}
  {{- end }}
{{- end -}}

{{- define "credrotator.tokenFile" -}}
{{- list (default "" .namespace) .name | compact | join "." -}}
{{- end -}}

{{/*
The variables that the values give. Whoever sets one of the same name in env or extraEnv means that one; both would stand
in the list, and Helm's merge of an upgrade confuses entries of one name.
*/}}
{{- define "credrotator.env" -}}
{{- $given := keys .Values.env -}}
{{- range .Values.extraEnv }}
{{- $given = append $given .name }}
{{- end }}
{{- range concat (include "credrotator.settings" . | fromYamlArray) (include "credrotator.environment" . | fromYamlArray) }}
{{- if not (has .name $given) }}
- {name: {{ .name }}, value: {{ .value | quote }}}
{{- end }}
{{- end }}
{{- range $name, $value := .Values.env }}
- {name: {{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
Options as variables and not as arguments: commands that are run in the pod by hand (check, status, rotate) know them,
too. What only `run` or the job's `rotate` should do is an argument. Entries of a variable are separated by spaces; the
schema lets none into a value that is a list.
*/}}
{{- define "credrotator.settings" -}}
{{- $values := .Values -}}
{{- with $values.watchNamespaces }}
- {name: CREDROTATOR_NAMESPACE, value: {{ join " " . | quote }}}
{{- end }}
{{- with $values.selector }}
- {name: CREDROTATOR_SELECTOR, value: {{ . | quote }}}
{{- end }}
{{- with $values.allowedIssuers }}
- {name: CREDROTATOR_ALLOWED_ISSUER, value: {{ join " " . | quote }}}
{{- end }}
{{- if or $values.caBundle.configMap $values.caBundle.secret }}
- {name: CREDROTATOR_CA_FILE, value: {{ printf "/etc/credrotator/ca/%s" $values.caBundle.key | quote }}}
{{- end }}
- {name: CREDROTATOR_TIMEOUT, value: {{ $values.timeout | quote }}}
- {name: CREDROTATOR_WORKERS, value: {{ printf "%d" (int $values.workers) | quote }}}
{{- with $values.azure.scope }}
- {name: CREDROTATOR_AZURE_SCOPE, value: {{ . | quote }}}
{{- end }}
{{- if and (eq $values.mode "deployment") $values.leaderElection.enabled }}
- {name: CREDROTATOR_LEASE, value: {{ printf "%s/%s" .Release.Namespace (include "credrotator.lease" .) | quote }}}
{{- end }}
{{- with $values.tokenFiles }}
{{- $named := list }}
{{- range . }}
{{- $who := list (default "" .namespace) .name | compact | join "/" }}
{{- $named = append $named (printf "%s=/var/run/secrets/credrotator.io/tokens/%s" $who (include "credrotator.tokenFile" .)) }}
{{- end }}
- {name: CREDROTATOR_TOKEN_FILE, value: {{ join " " $named | quote }}}
{{- end }}
{{- if and (eq $values.mode "deployment") $values.verifyDelivery.gateways }}
{{- $gateways := list }}
{{- range $values.verifyDelivery.gateways }}
{{- $gateways = append $gateways (printf "%s/%s" .namespace .name) }}
{{- end }}
- {name: CREDROTATOR_VERIFY_DELIVERY, value: {{ join " " $gateways | quote }}}
- {name: CREDROTATOR_FILTER_NAMESPACE, value: {{ $values.verifyDelivery.filterNamespace | quote }}}
{{- end }}
{{- if $values.verifyCredentials }}
- {name: CREDROTATOR_VERIFY_CREDENTIALS, value: "true"}
{{- end }}
{{- end -}}

{{/* What SDKs and connections read. */}}
{{- define "credrotator.environment" -}}
{{- $values := .Values -}}
{{- with $values.aws.stsEndpointUrl }}
- {name: AWS_ENDPOINT_URL_STS, value: {{ . | quote }}}
{{- end }}
{{- if $values.aws.useFipsEndpoint }}
- {name: AWS_USE_FIPS_ENDPOINT, value: "true"}
{{- end }}
{{- with $values.azure.authorityHost }}
- {name: AZURE_AUTHORITY_HOST, value: {{ . | quote }}}
{{- end }}
{{- with $values.proxy.https }}
- {name: HTTPS_PROXY, value: {{ . | quote }}}
{{- end }}
{{- with $values.proxy.http }}
- {name: HTTP_PROXY, value: {{ . | quote }}}
{{- end }}
{{- if or $values.proxy.https $values.proxy.http $values.proxy.noProxy }}
{{- $own := list "localhost" "127.0.0.1" "$(KUBERNETES_SERVICE_HOST)" ".svc" ".cluster.local" }}
- {name: NO_PROXY, value: {{ concat $own $values.proxy.noProxy | join "," | quote }}}
{{- end }}
{{- end -}}
