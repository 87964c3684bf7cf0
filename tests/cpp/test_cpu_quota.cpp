// What control groups grant, read from folders that look like those of real machines; and, where this machine lets a
// test make a control group, from that.
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "buffers.h"
#include "cpu_quota.h"

namespace {

long cases = 0;

struct Root {
    std::string path;

    Root() {
        char name[] = "/tmp/flashring-quota-XXXXXX";
        path = mkdtemp(name);
    }
    ~Root() { CHECK(std::system(("rm -r " + path).c_str()) == 0, "cannot remove %s", path.c_str()); }

    void write(const std::string& file, const std::string& text) const {
        const std::string folder = path + file.substr(0, file.rfind('/'));
        CHECK(std::system(("mkdir -p '" + folder + "'").c_str()) == 0, "cannot make %s", folder.c_str());
        std::ofstream(path + file) << text << '\n';
    }

    void expect(int32_t processors, const char* what) const {
        const int32_t found = flashring::quotaProcessors(path.c_str());
        CHECK(found == processors, "%s: %d processors, not %d", what, found, processors);
        ++cases;
    }
};

const char* const kVersion2 = "25 21 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";

void version2() {
    Root root;
    root.expect(0, "no proc at all");
    root.write("/proc/self/mountinfo", std::string("21 1 8:1 / / rw - ext4 /dev/sda1 rw\n") + kVersion2);
    root.expect(0, "no group");
    root.write("/proc/self/cgroup", "0::/user.slice/job.scope");
    root.write("/sys/fs/cgroup/user.slice/job.scope/cpu.max", "max 100000");
    root.expect(0, "no limit");
    root.write("/sys/fs/cgroup/user.slice/job.scope/cpu.max", "100000 100000");
    root.expect(1, "one processor");
    root.write("/sys/fs/cgroup/user.slice/job.scope/cpu.max", "250000 100000");
    root.expect(3, "two and a half");
    root.write("/sys/fs/cgroup/user.slice/job.scope/cpu.max", "5000 100000");
    root.expect(1, "a twentieth");
    root.write("/sys/fs/cgroup/user.slice/job.scope/cpu.max", "800000 100000");
    root.write("/sys/fs/cgroup/user.slice/cpu.max", "200000 100000");
    root.expect(2, "the group around it is tighter");
    root.write("/sys/fs/cgroup/cpu.max", "100000 100000");
    root.expect(1, "the mount itself, as inside a container");
    root.write("/sys/fs/cgroup/cpu.max", "rubbish");
    root.expect(2, "a file that is no quota");
}

void version1() {
    Root root;
    root.write("/proc/self/mountinfo",
               "33 31 0:30 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpuacct\n"
               "32 31 0:29 / /sys/fs/cgroup/cpu,cpuset rw - cgroup cgroup rw,cpu,cpuset\n"
               "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw");
    root.write("/proc/self/cgroup", "3:cpuacct:/other\n2:cpu,cpuset:/batch/a:b\n0::/");
    const std::string group = "/sys/fs/cgroup/cpu,cpuset/batch/a:b";
    root.write(group + "/cpu.cfs_quota_us", "-1");
    root.write(group + "/cpu.cfs_period_us", "100000");
    root.write("/sys/fs/cgroup/cpuacct/other/cpu.cfs_quota_us", "100000");
    root.write("/sys/fs/cgroup/cpuacct/other/cpu.cfs_period_us", "100000");
    root.expect(0, "no limit");
    root.write(group + "/cpu.cfs_quota_us", "400000");
    root.expect(4, "four processors");
    root.write(group + "/cpu.cfs_period_us", "50000");
    root.expect(8, "in half the period");
}

// A container that sees its own group as the mount: the group's name is that of the host.
void container() {
    Root root;
    root.write("/proc/self/mountinfo", "32 31 0:29 /docker/c0ffee /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu");
    root.write("/proc/self/cgroup", "2:cpu:/docker/c0ffee/inner");
    root.write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "300000");
    root.write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000");
    root.expect(3, "the container's own limit");
    root.write("/sys/fs/cgroup/cpu/inner/cpu.cfs_quota_us", "200000");
    root.write("/sys/fs/cgroup/cpu/inner/cpu.cfs_period_us", "100000");
    root.expect(2, "a group inside it");
    root.write("/proc/self/cgroup", "2:cpu:/docker/c0ffee2");
    root.expect(3, "a group outside the mount");
}

// Spaces and backslashes in the names of groups and mounts.
void escapes() {
    Root root;
    root.write("/proc/self/mountinfo", R"(32 31 0:29 /my\040jobs/a\134b /mnt/c\040g\0112 rw - cgroup2 cgroup2 rw)");
    root.write("/proc/self/cgroup", "0::/my jobs/a\\b/in\\040er");
    root.write("/mnt/c g\t2/in\\040er/cpu.max", "300000 100000");
    root.expect(3, "a group in a mount whose names are escaped");
}

// A child that moves itself into a real group with a quota of one processor asks the library.
void real() {
    const std::string one = "/sys/fs/cgroup/cpu/flashring_test_" + std::to_string(getpid());
    const std::string two = "/sys/fs/cgroup/flashring_test_" + std::to_string(getpid());
    const bool version1 = access("/sys/fs/cgroup/cpu/cgroup.procs", W_OK) == 0;
    const std::string group = version1 ? one : two;
    if (!version1 && access("/sys/fs/cgroup/cgroup.procs", W_OK) != 0) {
        std::printf("no real group: this machine has none that a test may write to\n");
        return;
    }
    if (mkdir(group.c_str(), 0755) != 0) {
        std::printf("no real group: this machine permits none\n");
        return;
    }
    const pid_t child = fork();
    if (child == 0) {
        if (version1) {
            std::ofstream(group + "/cpu.cfs_quota_us") << 100000;
        } else {
            std::ofstream(group + "/cpu.max") << "100000 100000";
        }
        std::ofstream(group + "/cgroup.procs") << getpid() << std::flush;
        if (flashring::quotaProcessors("") == 0) {
            _exit(77);  // not moved: no processor controller here, or no permission
        }
        _exit(flashring::quotaProcessors("") == 1 && flashring_threads() == 1 ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    rmdir(group.c_str());
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        std::printf("no real group: its quota does not reach this process\n");
        return;
    }
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a real quota of one processor is not seen: status %d",
          status);
    ++cases;
}

}  // namespace

int main() {
    version2();
    version1();
    container();
    escapes();
    unsetenv("FLASHRING_THREADS");
    real();
    return finish("cpu quota", cases);
}
