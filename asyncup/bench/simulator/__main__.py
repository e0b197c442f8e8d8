from asyncup.bench.simulator.server import main

main()
