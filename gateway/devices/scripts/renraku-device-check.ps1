# 連絡帳ゲートウェイ 端末点検スクリプト (Windows PowerShell 5.1)
#
# 登録 (管理者として実行):  .\renraku-device-check.ps1 -Register -Name "事務室PC 1"
# 削除 (管理者として実行):  .\renraku-device-check.ps1 -Remove
# 引数なし: 点検して報告する (タスク スケジューラが15分ごとに実行する)
#
# 送るもの: OSの版、ウイルス対策の状態、画面ロックの秒数、USB記憶装置の設定と製造番号、ドライブ暗号化、ソフトの名前と版、
# 本体の識別番号。送らないもの: 利用者名、ファイル名、閲覧履歴、画面の内容。結論はゲートウェイが出す。
param(
    [switch]$Register,
    [switch]$Remove,
    [string]$Name = ''
)

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
[Net.ServicePointManager]::SecurityProtocol = [Net.SecurityProtocolType]::Tls12

$Base = 'https://@BOX@/device/v1'
# Program Files は管理者だけが書き換えられる。SYSTEM で動くものを ProgramData に置いてはならない。
$Folder = Join-Path $env:ProgramFiles 'renraku-gateway'
$Installed = Join-Path $Folder 'renraku-device-check.ps1'
$Registry = 'HKLM:\SOFTWARE\renraku-gateway'
$Task = 'renraku-gateway device check'

# 変数名は大文字と小文字を区別せず、呼び出した側の変数も見える。上の5つの名前を関数の中で使わないこと。
function Read-Value([string]$Path, [string]$Value) {
    try { return (Get-ItemProperty -LiteralPath $Path -Name $Value).$Value } catch { return $null }
}

function Send-Json([string]$Path, $Body, $Certificate, $Headers) {
    $json = ConvertTo-Json $Body -Depth 5 -Compress
    $call = @{
        Uri = "$Base/$Path"; Method = 'Post'; UseBasicParsing = $true; TimeoutSec = 60
        ContentType = 'application/json'; Body = [Text.Encoding]::UTF8.GetBytes($json)
    }
    if ($Certificate) { $call.Certificate = $Certificate }
    if ($Headers) { $call.Headers = $Headers }
    return Invoke-RestMethod @call
}

# 取り出せない鍵を、できれば安全チップ (TPM) の中に作る。
function New-DeviceKey {
    foreach ($provider in 'Microsoft Platform Crypto Provider', 'Microsoft Software Key Storage Provider') {
        try {
            $p = New-Object System.Security.Cryptography.CngKeyCreationParameters
            $p.Provider = New-Object System.Security.Cryptography.CngProvider $provider
            $p.KeyCreationOptions = [System.Security.Cryptography.CngKeyCreationOptions]::MachineKey
            $p.ExportPolicy = [System.Security.Cryptography.CngExportPolicies]::None
            $keyName = 'renraku-gateway-' + [Guid]::NewGuid().ToString()
            $key = [System.Security.Cryptography.CngKey]::Create(
                [System.Security.Cryptography.CngAlgorithm]::ECDsaP256, $keyName, $p)
            return New-Object System.Security.Cryptography.ECDsaCng $key
        } catch {
            Write-Warning "$provider は使えません。"
        }
    }
    throw '鍵を作れませんでした。'
}

function New-Request($Key) {
    $request = New-Object System.Security.Cryptography.X509Certificates.CertificateRequest(
        'CN=renraku-device', $Key, [System.Security.Cryptography.HashAlgorithmName]::SHA256)
    return [Convert]::ToBase64String($request.CreateSigningRequest())
}

# 受け取った証明書 (PEM、先頭が端末のもの) を鍵と結び付け、コンピューターの「個人」に入れる。
function Save-Certificate([string]$Pem, $Key) {
    $first = ($Pem -split '-----END CERTIFICATE-----')[0] -replace '-----BEGIN CERTIFICATE-----', ''
    $bytes = [Convert]::FromBase64String(($first -replace '\s', ''))
    $plain = New-Object System.Security.Cryptography.X509Certificates.X509Certificate2 (, $bytes)
    $bound = [System.Security.Cryptography.X509Certificates.ECDsaCertificateExtensions]::CopyWithPrivateKey($plain, $Key)
    $store = New-Object System.Security.Cryptography.X509Certificates.X509Store 'My', 'LocalMachine'
    $store.Open('ReadWrite')
    try { $store.Add($bound) } finally { $store.Close() }
    if (-not (Test-Path $Registry)) { New-Item -Path $Registry -Force | Out-Null }
    Set-ItemProperty -Path $Registry -Name Thumbprint -Value $plain.Thumbprint
}

function Get-DeviceCertificate {
    $thumbprint = Read-Value $Registry 'Thumbprint'
    if (-not $thumbprint) { throw 'この端末は登録されていません。-Register を付けて実行してください。' }
    return Get-Item -LiteralPath "Cert:\LocalMachine\My\$thumbprint"
}

function Get-HardwareUuid {
    try { return [string](Get-CimInstance -ClassName Win32_ComputerSystemProduct).UUID } catch { return $null }
}

function Register-Device {
    if (-not $Name) { $script:Name = Read-Host 'この端末の名前 (例: 事務室PC 1)' }
    $key = New-DeviceKey
    $wish = @{ name = $Name; kind = 'windows'; csr = (New-Request $key); hardware_uuid = (Get-HardwareUuid) }
    $ticket = Send-Json 'pair' $wish
    Write-Host ''
    Write-Host "  番号: $($ticket.code)"
    Write-Host ''
    Write-Host '事業所管理者に、この番号を管理ページの「端末」で入力してもらってください (10分以内)。'
    $bearer = @{ Authorization = "Bearer $($ticket.token)" }
    do {
        Start-Sleep -Seconds 3
        # 10分を過ぎると、申し込みがないという答え (404) になり、ここで終わる。
        $asked = Invoke-RestMethod -Uri "$Base/pair" -Headers $bearer -UseBasicParsing -TimeoutSec 60
    } while ($asked.state -eq 'waiting')
    if ($asked.state -ne 'approved') { throw '事業所管理者が承認しませんでした。' }
    $answer = Send-Json 'pair/collect' @{} $null $bearer
    Save-Certificate $answer.certificate $key

    New-Item -ItemType Directory -Path $Folder -Force | Out-Null
    if ($PSCommandPath -ne $Installed) { Copy-Item -LiteralPath $PSCommandPath -Destination $Installed -Force }
    $action = New-ScheduledTaskAction -Execute 'powershell.exe' -Argument (
        '-NoProfile -NonInteractive -ExecutionPolicy Bypass -File "' + $Installed + '"')
    $again = New-ScheduledTaskTrigger -Once -At (Get-Date) -RepetitionInterval (New-TimeSpan -Minutes 15)
    $start = New-ScheduledTaskTrigger -AtStartup
    $who = New-ScheduledTaskPrincipal -UserId 'SYSTEM' -LogonType ServiceAccount -RunLevel Highest
    $how = New-ScheduledTaskSettingsSet -AllowStartIfOnBatteries -DontStopIfGoingOnBatteries -StartWhenAvailable
    Register-ScheduledTask -TaskName $Task -Action $action -Trigger $again, $start -Principal $who -Settings $how -Force | Out-Null
    Write-Host '登録しました。'
}

function Get-Protection {
    try {
        $mp = Get-MpComputerStatus
        $defender = @{
            service = [bool]$mp.AMServiceEnabled; realtime = [bool]$mp.RealTimeProtectionEnabled
            signature_age = [uint32]$mp.AntivirusSignatureAge
        }
    } catch { $defender = $null }
    try {
        $products = @(Get-CimInstance -Namespace 'root/SecurityCenter2' -ClassName AntiVirusProduct |
                ForEach-Object { @{ state = [uint32]$_.productState } })
    } catch { $products = @() }
    return $defender, $products
}

# 利用者ごとの設定は、いちばん緩い値だけを取る。誰の設定かは見ない。
function Get-Lock {
    $seconds = @(); $secure = @()
    foreach ($user in Get-ChildItem -LiteralPath 'Registry::HKEY_USERS' -ErrorAction SilentlyContinue) {
        $desktop = "Registry::$($user.Name)\Software\Policies\Microsoft\Windows\Control Panel\Desktop"
        $value = Read-Value $desktop 'ScreenSaveTimeOut'
        if ($null -ne $value) { $seconds += [uint32]$value; $secure += [uint32](Read-Value $desktop 'ScreenSaverIsSecure') }
    }
    $inactivity = Read-Value 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Policies\System' 'InactivityTimeoutSecs'
    return @{
        inactivity = $(if ($null -ne $inactivity) { [uint32]$inactivity } else { $null })
        saver_seconds = $(if ($seconds.Count) { [uint32]($seconds | Measure-Object -Maximum).Maximum } else { $null })
        saver_secure = $(if ($secure.Count) { [uint32]($secure | Measure-Object -Minimum).Minimum } else { $null })
    }
}

function Get-Programs {
    $roots = 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall\*',
    'HKLM:\SOFTWARE\WOW6432Node\Microsoft\Windows\CurrentVersion\Uninstall\*'
    return @(Get-ItemProperty -Path $roots -ErrorAction SilentlyContinue | Where-Object { $_.DisplayName } |
            ForEach-Object { @{ name = [string]$_.DisplayName; version = [string]$_.DisplayVersion } })
}

function Send-Report {
    $certificate = Get-DeviceCertificate
    $challenge = Invoke-RestMethod -Uri "$Base/nonce" -Certificate $certificate -UseBasicParsing -TimeoutSec 60
    $counter = 1 + [Math]::Max([long]$challenge.counter, [long](Read-Value $Registry 'Counter'))
    $nt = 'HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion'
    $defender, $products = Get-Protection
    $start = Read-Value 'HKLM:\SYSTEM\CurrentControlSet\Services\USBSTOR' 'Start'
    $media = @(Get-ChildItem -Path 'HKLM:\SYSTEM\CurrentControlSet\Enum\USBSTOR\*' -ErrorAction SilentlyContinue |
            ForEach-Object { [string]$_.PSChildName })
    try {
        $volume = Get-CimInstance -Namespace 'root/CIMV2/Security/MicrosoftVolumeEncryption' -ClassName Win32_EncryptableVolume |
            Where-Object { $_.DriveLetter -eq $env:SystemDrive }
        $bitlocker = $(if ($volume) { [uint32]$volume.ProtectionStatus } else { $null })
    } catch { $bitlocker = $null }
    try { $portable = [bool](Get-CimInstance -ClassName Win32_Battery) } catch { $portable = $null }
    $report = @{
        version = 1; nonce = [string]$challenge.nonce; counter = $counter; hardware_uuid = (Get-HardwareUuid)
        os = @{
            major = [uint32](Read-Value $nt 'CurrentMajorVersionNumber'); minor = [uint32](Read-Value $nt 'CurrentMinorVersionNumber')
            build = [uint32](Read-Value $nt 'CurrentBuildNumber'); revision = [uint32](Read-Value $nt 'UBR')
        }
        defender = $defender; products = @($products); lock = (Get-Lock)
        usbstor_start = $(if ($null -ne $start) { [uint32]$start } else { $null }); media = @($media)
        bitlocker = $bitlocker; portable = $portable; programs = @(Get-Programs)
    }
    Send-Json 'report' $report $certificate | Out-Null
    Set-ItemProperty -Path $Registry -Name Counter -Value $counter -Type QWord

    if ($certificate.NotAfter -lt (Get-Date).AddDays(60)) {
        $key = New-DeviceKey
        $answer = Send-Json 'renew' @{ csr = (New-Request $key) } $certificate
        Save-Certificate $answer.certificate $key
    }
}

if ($Remove) {
    Unregister-ScheduledTask -TaskName $Task -Confirm:$false
    Remove-Item -LiteralPath (Get-DeviceCertificate).PSPath -DeleteKey
    Remove-Item -LiteralPath $Registry -Recurse
    Write-Host '削除しました。管理ページでこの端末の利用を停止してください。'
} elseif ($Register) {
    Register-Device
} else {
    Send-Report
}
