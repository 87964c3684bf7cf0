#include "cpu_quota.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

namespace flashring {
namespace {

// Not streams: they would bring 900 KB of the C++ library along.
std::string readFile(const std::string& path) {
    std::string text;
    const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "re"), std::fclose);
    char part[4096];
    for (size_t count; file && (count = std::fread(part, 1, sizeof part, file.get())) > 0;) {
        text.append(part, count);
    }
    return text;
}

// The pieces of `text` between separators, at most `most` of them: the last one is the rest.
std::vector<std::string> split(const std::string& text, char separator, size_t most = SIZE_MAX) {
    std::vector<std::string> pieces;
    size_t start = 0, end;
    while (pieces.size() + 1 < most && (end = text.find(separator, start)) != std::string::npos) {
        pieces.push_back(text.substr(start, end - start));
        start = end + 1;
    }
    pieces.push_back(text.substr(start));
    return pieces;
}

bool startsWith(const std::string& text, const std::string& start) { return text.compare(0, start.size(), start) == 0; }

// Whether `list`, such as "rw,cpu,cpuacct", names the processor controller.
bool namesCpu(const std::string& list) {
    const std::vector<std::string> names = split(list, ',');
    return std::find(names.begin(), names.end(), "cpu") != names.end();
}

// A field of mountinfo, in which the kernel writes spaces, tabs, newlines and backslashes as \040 and the like.
std::string unescaped(const std::string& field) {
    const auto isOctal = [](char c) { return c >= '0' && c <= '7'; };
    std::string text;
    for (size_t i = 0; i < field.size(); ++i) {
        if (field[i] == '\\' && i + 3 < field.size() && isOctal(field[i + 1]) && isOctal(field[i + 2]) &&
            isOctal(field[i + 3])) {
            text += static_cast<char>((field[i + 1] - '0') * 64 + (field[i + 2] - '0') * 8 + (field[i + 3] - '0'));
            i += 3;
        } else {
            text += field[i];
        }
    }
    return text;
}

// This process's group in the one hierarchy of version 2, or in that of version 1 which shares out processors.
std::string groupPath(const std::string& root, bool version2) {
    for (const std::string& line : split(readFile(root + "/proc/self/cgroup"), '\n')) {
        const std::vector<std::string> fields = split(line, ':', 3);  // number:controllers:path
        if (fields.size() == 3 && (version2 ? fields[0] == "0" && fields[1].empty() : namesCpu(fields[1]))) {
            return fields[2] == "/" ? "" : fields[2];
        }
    }
    return "";
}

// Processors by the quota of one group; 0 for no limit.
double readQuota(const std::string& group, bool version2) {
    std::string quota, period;
    if (version2) {
        // "max 100000" or "150000 100000"
        const std::vector<std::string> fields = split(readFile(group + "/cpu.max"), ' ');
        quota = fields.front();
        period = fields.back();
    } else {
        quota = readFile(group + "/cpu.cfs_quota_us");  // -1 for none
        period = readFile(group + "/cpu.cfs_period_us");
    }
    const double granted = std::atof(quota.c_str()), every = std::atof(period.c_str());
    return granted > 0 && every > 0 ? granted / every : 0;
}

// The tighter of two quotas, of which 0 is none.
double tighter(double a, double b) { return a == 0 ? b : b == 0 ? a : std::min(a, b); }

// The tightest quota between the process's group and the mount, which shows the hierarchy from `mountRoot` on.
double tightest(const std::string& root, const std::string& mountRoot, const std::string& mountPoint, bool version2) {
    std::string path = groupPath(root, version2);
    if (mountRoot != "/") {
        path = startsWith(path, mountRoot + "/") ? path.substr(mountRoot.size()) : "";
    }
    double least = readQuota(root + mountPoint, version2);
    for (; !path.empty(); path.erase(path.rfind('/'))) {
        least = tighter(least, readQuota(root + mountPoint + path, version2));
    }
    return least;
}

}  // namespace

int32_t quotaProcessors(const char* root) {
    double least = 0;
    for (const std::string& line : split(readFile(std::string(root) + "/proc/self/mountinfo"), '\n')) {
        // number parent major:minor root mountpoint options ... - type source options
        const size_t dash = line.find(" - ");
        const std::vector<std::string> before = split(line.substr(0, dash), ' ');
        if (dash == std::string::npos || before.size() < 6) {
            continue;
        }
        const std::vector<std::string> after = split(line.substr(dash + 3), ' ');
        const bool version2 = after[0] == "cgroup2";
        if (version2 || (after[0] == "cgroup" && namesCpu(after.back()))) {
            least = tighter(least, tightest(root, unescaped(before[3]), unescaped(before[4]), version2));
        }
    }
    constexpr double most = 1 << 20;
    return least == 0 ? 0 : static_cast<int32_t>(std::min(least + 0.999, most));
}

}  // namespace flashring
