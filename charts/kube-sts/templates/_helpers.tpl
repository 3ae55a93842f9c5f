{{- define "kube-sts.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* The start of every object's name. Short enough for the longest ending and for names in certificates. */}}
{{- define "kube-sts.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "kube-sts.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "kube-sts.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Labels of every object. With a component: include "kube-sts.labels" (list . "server") */}}
{{- define "kube-sts.labels" -}}
{{- $root := first . -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/part-of: kube-sts
{{ include "kube-sts.selector" . }}
{{- end }}

{{- define "kube-sts.selector" -}}
{{- $root := first . -}}
app.kubernetes.io/name: {{ include "kube-sts.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
{{- with rest . }}
app.kubernetes.io/component: {{ first . }}
{{- end }}
{{- end }}

{{- define "kube-sts.url" -}}
{{- default (printf "https://%s-server.%s.svc" (include "kube-sts.fullname" .) .Release.Namespace) .Values.url }}
{{- end }}

{{- define "kube-sts.clusterName" -}}
{{- coalesce .Values.clusterName .Values.k8s_cluster_name "kubernetes" }}
{{- end }}

{{/* include "kube-sts.image" (list . .Values.server.image) */}}
{{- define "kube-sts.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default $root.Chart.AppVersion $image.tag }}
{{- end }}
{{- end }}

{{/* The Secret of an endpoint's signing key, in our form or in OpenUnison's. */}}
{{- define "kube-sts.keySecret" -}}
{{- if kindIs "map" .issuer -}}{{ .issuer.keypair }}{{- else -}}{{ (default dict .key).secret }}{{- end }}
{{- end }}

{{/* The names of all signing keys' Secrets, each once, as JSON. */}}
{{- define "kube-sts.keySecrets" -}}
{{- $names := list -}}
{{- range .Values.sts.endpoints }}{{ $names = append $names (include "kube-sts.keySecret" .) }}{{ end -}}
{{- uniq $names | toJson }}
{{- end }}

{{/* The Secrets with other clusters' kubeconfigs, as JSON. */}}
{{- define "kube-sts.kubeconfigSecrets" -}}
{{- $names := list -}}
{{- range .Values.clusters }}{{ with (default dict .kubeconfig).secret }}{{ $names = append $names . }}{{ end }}{{ end -}}
{{- uniq $names | toJson }}
{{- end }}

{{/* The ConfigMaps that issuer documents are published in, as JSON. */}}
{{- define "kube-sts.publicConfigMaps" -}}
{{- $names := list -}}
{{- range concat .Values.sts.endpoints .Values.clusters (list .Values.clusterDocuments) }}{{ with (default dict .publish).configMap }}{{ $names = append $names . }}{{ end }}{{ end -}}
{{- uniq $names | toJson }}
{{- end }}

{{/* Not empty if an endpoint that takes the release's own cluster wants reviews: only then may the server ask for them. */}}
{{- define "kube-sts.reviews" -}}
{{- $own := include "kube-sts.clusterName" . -}}
{{- range .Values.sts.endpoints }}
{{- if and (eq (default "tokenReview" .verification) "tokenReview") (or (not .clusters) (has $own .clusters)) }}yes{{ end }}
{{- end }}
{{- end }}

{{/* Not empty if an endpoint that takes the release's own cluster wants a watch: only then may the server list pods. */}}
{{- define "kube-sts.watches" -}}
{{- $own := include "kube-sts.clusterName" . -}}
{{- range .Values.sts.endpoints }}
{{- if and (eq (default "" .verification) "watch") (or (not .clusters) (has $own .clusters)) }}yes{{ end }}
{{- end }}
{{- end }}

{{/* Not empty if an endpoint that takes the release's own cluster has a rule that asks for labels, in that way of verification:
     include "kube-sts.asksFor" (list . "pod_labels" "watch") */}}
{{- define "kube-sts.asksFor" -}}
{{- $root := index . 0 -}}
{{- $variable := index . 1 -}}
{{- $verification := index . 2 -}}
{{- $own := include "kube-sts.clusterName" $root -}}
{{- range $root.Values.sts.endpoints }}
{{- if and (eq (default "tokenReview" .verification) $verification) (or (not .clusters) (has $own .clusters)) }}
{{- range concat (default list .rules) (default list .roles) }}{{ if contains $variable (default "" .cel) }}yes{{ end }}{{ end }}
{{- end }}
{{- end }}
{{- end }}

{{/* The endpoints with an injector, as JSON: with none there is nothing to inject, and no injector is installed. */}}
{{- define "kube-sts.injecting" -}}
{{- $found := list -}}
{{- range .Values.sts.endpoints }}{{ if .injector }}{{ $found = append $found . }}{{ end }}{{ end -}}
{{- $found | toJson }}
{{- end }}

{{/* Whether there is an injector: something asks for it, an endpoint or the part for ServiceAccounts, and it is not left out. Values of an
older release, which `helm upgrade --reuse-values` keeps, do not have `enabled` at all. */}}
{{- define "kube-sts.hasInjector" -}}
{{- $wanted := or (include "kube-sts.injecting" . | fromJsonArray) .Values.injector.serviceAccounts.enabled }}
{{- if and $wanted (ne (toString .Values.injector.enabled) "false") }}true{{ end }}
{{- end }}

{{/* Which namespaces a webhook looks at: include "kube-sts.namespaceSelector" (list . .Values.injector.namespaceSelector) */}}
{{- define "kube-sts.namespaceSelector" -}}
{{- $root := index . 0 -}}
{{- $selector := index . 1 -}}
{{- with $selector.matchLabels -}}
matchLabels:
  {{- toYaml . | nindent 2 }}
{{ end -}}
matchExpressions:
- key: kubernetes.io/metadata.name
  operator: NotIn
  values: {{ uniq (list "kube-system" "kube-public" "kube-node-lease" $root.Release.Namespace) | toJson }}
{{- with $selector.matchExpressions }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The kubelet's static pods: the API server only mirrors them, and nothing can be added to them. */}}
{{- define "kube-sts.notAMirrorPod" -}}
- name: not-a-mirror-pod
  expression: '!has(object.metadata.annotations) || !("kubernetes.io/config.mirror" in object.metadata.annotations)'
{{- end }}

{{/* Mistakes that the schema cannot see. */}}
{{- define "kube-sts.validate" -}}
{{- if not .Values.sts.endpoints }}
{{- fail "sts.endpoints is empty: write at least one endpoint, that is name, path, audience, issuer and key pair of what pods shall get tokens for. The comment at sts.endpoints in the chart's values.yaml shows one; OpenUnison's sts.endpoints can be used as they are." }}
{{- end }}
{{- if ne (empty .Values.server.tls.existingSecret) (empty .Values.server.tls.caConfigMap) }}
{{- fail "server.tls.existingSecret and server.tls.caConfigMap go together: write the Secret with the server's certificate, and the ConfigMap whose ca.crt the sidecars shall trust." }}
{{- end }}
{{- if and (default dict .Values.networkPolicy).enabled (include "kube-sts.hasInjector" .) (not .Values.networkPolicy.apiServer) }}
{{- fail "networkPolicy.apiServer is empty: write the addresses of your API servers as pods see them, such as [10.0.0.1/32]. Without them no review would reach the injector, and no labelled pod be created." }}
{{- end }}
{{- if and (eq (toString .Values.injector.enabled) "false") .Values.injector.serviceAccounts.enabled }}
{{- fail "injector.serviceAccounts needs the injector: a policy cannot look up a ServiceAccount. Leave injector.enabled true, or disable injector.serviceAccounts." }}
{{- end }}
{{- if and .Values.injector.finalStatePolicy.enabled (semverCompare "<1.30.0-0" .Capabilities.KubeVersion.Version) }}
{{- fail "injector.finalStatePolicy needs Kubernetes 1.30 or later: before, ValidatingAdmissionPolicy is a beta that is off. Disable it." }}
{{- end }}
{{- $fullname := include "kube-sts.fullname" . }}
{{- $seen := dict }}
{{- range $at, $endpoint := .Values.sts.endpoints }}
{{- range $what, $value := dict "name" .name "path" .path "injector.label" (default dict .injector).label }}
{{- if $value }}
{{- $mark := printf "%s=%s" $what $value }}
{{- if hasKey $seen $mark }}
{{- fail (printf "sts.endpoints[%d]: %s %q is taken by sts.endpoints[%d]; give each endpoint its own." $at $what $value (get $seen $mark | int)) }}
{{- end }}
{{- $_ := set $seen $mark $at }}
{{- end }}
{{- end }}
{{- $key := include "kube-sts.keySecret" . }}
{{- if has $key (list (printf "%s-server-tls" $fullname) (printf "%s-injector-tls" $fullname)) }}
{{- fail (printf "sts.endpoints[%d]: the key pair cannot be named %q, which is the Secret of a serving certificate; take another name." $at $key) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Where a program's certificate comes from: include "kube-sts.tls" (list . "server" .Values.server.tls) */}}
{{- define "kube-sts.tls" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $tls := index . 2 -}}
{{- if $tls.existingSecret -}}
files:
  certificate: /etc/kube-sts-tls/tls.crt
  key: /etc/kube-sts-tls/tls.key
{{- else -}}
secret: {{ include "kube-sts.fullname" $root }}-{{ $component }}-tls
{{- if eq $component "server" }}
caConfigMap: {{ include "kube-sts.serverCa" $root }}
{{- end }}
{{- with $tls.rotation }}
rotation:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* The ConfigMap with the CA that sidecars trust. */}}
{{- define "kube-sts.serverCa" -}}
{{- if .Values.server.tls.existingSecret -}}
{{ .Values.server.tls.caConfigMap }}
{{- else -}}
{{ include "kube-sts.fullname" . }}-server-ca
{{- end }}
{{- end }}

{{/* The configuration file of both programs. */}}
{{- define "kube-sts.config" -}}
{{- $fullname := include "kube-sts.fullname" . -}}
url: {{ include "kube-sts.url" . | quote }}

clusters:
- name: {{ include "kube-sts.clusterName" . | quote }}
  jwks:
    apiServer: {}
{{- with .Values.clusterDocuments }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- with .Values.clusters }}
{{ toYaml . }}
{{- end }}

endpoints:
{{ toYaml .Values.sts.endpoints }}

server:
  listen: "0.0.0.0:8443"
  adminListen: "0.0.0.0:8081"
  tls:
    {{- include "kube-sts.tls" (list . "server" .Values.server.tls) | nindent 4 }}
  {{- with .Values.server.rateLimit }}
  rateLimit:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  keyLedger: {{ $fullname }}-server-keys

injector:
  listen: "0.0.0.0:8443"
  adminListen: "0.0.0.0:8081"
  tls:
    {{- include "kube-sts.tls" (list . "injector" .Values.injector.tls) | nindent 4 }}
  service: {{ $fullname }}-injector
  webhookConfiguration: {{ $fullname }}
  serverCaConfigMap: {{ include "kube-sts.serverCa" . }}
  sidecar:
    image: {{ include "kube-sts.image" (list . .Values.refresher.image) | quote }}
    imagePullPolicy: {{ .Values.refresher.image.pullPolicy }}
    form: {{ .Values.refresher.form }}
    tokenLifetime: {{ .Values.refresher.tokenLifetime }}
    gate: {{ .Values.refresher.gate }}
    liveness: {{ .Values.refresher.liveness }}
    {{- with .Values.refresher.metricsPort }}
    metricsPort: {{ . }}
    {{- end }}
    waitTimeout: {{ .Values.refresher.waitTimeout }}
    resources:
      {{- toYaml .Values.refresher.resources | nindent 6 }}
  {{- if .Values.injector.serviceAccounts.enabled }}
  serviceAccounts:
    {{- toYaml .Values.injector.serviceAccounts.settings | nindent 4 }}
  {{- end }}
{{- end }}

{{/* What a running program does not take over from a changed configuration file: include "kube-sts.fixed" (list . "server" .Values.server) */}}
{{- define "kube-sts.fixed" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $values := index . 2 -}}
url: {{ include "kube-sts.url" $root }}
names: {{ include "kube-sts.fullname" $root }} {{ include "kube-sts.serverCa" $root }}
tls: {{ include "kube-sts.tls" (list $root $component $values.tls) | quote }}
{{- if eq $component "injector" }}
{{- with $values.serviceAccounts }}
serviceAccounts: {{ .enabled }}
watched: {{ pick .settings "annotationPrefix" "configMap" "lookupTimeout" | toJson }}
agent: {{ (default dict .settings.containerCredentials).file }}
{{- end }}
{{- end }}
{{- if $root.Values.restartOnConfigChange }}
all: {{ include "kube-sts.config" $root | quote }}
{{- end }}
{{- end }}

{{/* What the container of every pod of ours may do: nothing but run. No uid: the image has one, and OpenShift gives its own. */}}
{{- define "kube-sts.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "kube-sts.podSecurityContext" -}}
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* One Deployment: include "kube-sts.deployment" (list . "server" .Values.server). The two differ in name and values alone. */}}
{{- define "kube-sts.deployment" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $values := index . 2 -}}
{{- $name := printf "%s-%s" (include "kube-sts.fullname" $root) $component -}}
{{- $of := list $root $component -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "kube-sts.labels" $of | nindent 4 }}
spec:
  replicas: {{ $values.replicas }}
  revisionHistoryLimit: 3
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxUnavailable: 0
      maxSurge: 1
  selector:
    matchLabels:
      {{- include "kube-sts.selector" $of | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "kube-sts.labels" $of | nindent 8 }}
      annotations:
        # The programs take changes of their configuration over while they run; what they cannot so take over rolls the pods.
        checksum/config: {{ include "kube-sts.fixed" . | sha256sum }}
        {{- with $root.Values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ $name }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: 30
      {{- with $values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- include "kube-sts.podSecurityContext" $root | nindent 8 }}
      containers:
      - name: {{ $component }}
        image: {{ include "kube-sts.image" (list $root $values.image) | quote }}
        imagePullPolicy: {{ $values.image.pullPolicy }}
        args: [--config, /etc/kube-sts/config.yaml]
        env:
        - name: POD_NAMESPACE
          valueFrom:
            fieldRef:
              fieldPath: metadata.namespace
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        - name: POD_UID
          valueFrom:
            fieldRef:
              fieldPath: metadata.uid
        {{- with $values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- with $values.extraEnvFrom }}
        envFrom:
        {{- toYaml . | nindent 8 }}
        {{- end }}
        ports:
        - name: https
          containerPort: 8443
        - name: admin
          containerPort: 8081
        readinessProbe:
          httpGet:
            path: /readyz
            port: admin
          periodSeconds: 1
          timeoutSeconds: 2
          failureThreshold: 3
        livenessProbe:
          httpGet:
            path: /livez
            port: admin
          periodSeconds: 10
          timeoutSeconds: 5
          failureThreshold: 3
        resources:
          {{- toYaml $values.resources | nindent 10 }}
        securityContext:
          {{- include "kube-sts.containerSecurityContext" $root | nindent 10 }}
        volumeMounts:
        - name: config
          mountPath: /etc/kube-sts
          readOnly: true
        - name: api-access
          mountPath: /var/run/secrets/kubernetes.io/serviceaccount
          readOnly: true
        {{- if $values.tls.existingSecret }}
        - name: tls
          mountPath: /etc/kube-sts-tls
          readOnly: true
        {{- end }}
        {{- with $values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      volumes:
      - name: config
        configMap:
          name: {{ include "kube-sts.fullname" $root }}-config
      - name: api-access
        projected:
          sources:
          - serviceAccountToken:
              path: token
              expirationSeconds: 3600
          - configMap:
              name: kube-root-ca.crt
              items:
              - key: ca.crt
                path: ca.crt
          - downwardAPI:
              items:
              - path: namespace
                fieldRef:
                  fieldPath: metadata.namespace
      {{- with $values.tls.existingSecret }}
      - name: tls
        secret:
          secretName: {{ . }}
          items:
          - {key: tls.crt, path: tls.crt}
          - {key: tls.key, path: tls.key}
      {{- end }}
      {{- with $values.extraVolumes }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: ScheduleAnyway
        labelSelector:
          matchLabels:
            {{- include "kube-sts.selector" $of | nindent 12 }}
        matchLabelKeys: [pod-template-hash]
      {{- with $root.Values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $root.Values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $root.Values.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end }}

{{/* What stands around a Deployment: its ServiceAccount, its Service, its disruption budget. Arguments as above. */}}
{{- define "kube-sts.around" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $values := index . 2 -}}
{{- $name := printf "%s-%s" (include "kube-sts.fullname" $root) $component -}}
{{- $of := list $root $component -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "kube-sts.labels" $of | nindent 4 }}
automountServiceAccountToken: false
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "kube-sts.labels" $of | nindent 4 }}
spec:
  type: ClusterIP
  selector:
    {{- include "kube-sts.selector" $of | nindent 4 }}
  ports:
  - name: https
    port: 443
    targetPort: https
    protocol: TCP
{{- if gt (int $values.replicas) 1 }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "kube-sts.labels" $of | nindent 4 }}
spec:
  minAvailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "kube-sts.selector" $of | nindent 6 }}
{{- end }}
{{- end }}
